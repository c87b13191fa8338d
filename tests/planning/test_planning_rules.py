"""The planning rules, each by numbers worked by hand."""

import pytest

from autoseg.core.records import AugmentationSettings, ChannelFacts, HeadFacts
from autoseg.fingerprint import crop_to_region
from autoseg.planning import make_plan
from autoseg.planning.memory import budget_elements, count_conv_elements, count_gflop, step_gflop
from autoseg.planning.mirroring import Mirroring
from autoseg.planning.normalization import plan_normalization, plan_region
from autoseg.planning.patch import PatchProblem, first_patch, fit_patch
from autoseg.planning.presets import PRESETS, find_preset
from autoseg.planning.sampling import add_substitutions, plan_augmentation, plan_sampling
from autoseg.planning.spacing import choose_spacing, plan_grid
from autoseg.planning.tiling import count_tiles, plan_tiling
from autoseg.planning.topology import describe_network, plan_topology
from autoseg.planning.training import plan_loss, weigh_heads

STANDARD = PRESETS["standard"]


def mirror_all(dimensions):
    return Mirroring(axes=tuple(range(dimensions)), reason=f"Mirrored along all {dimensions} axes.")


# 1-2: spacing and axis order


def test_target_spacing_is_the_median_per_axis(gather, case):
    spacings = [(1.0, 1.0, 1.0), (2.0, 1.1, 0.9), (5.0, 1.2, 0.8)]
    made = gather([case(f"c{i}", (90, 100, 110), s) for i, s in enumerate(spacings)])
    spacing, why = choose_spacing(made)
    assert spacing == (2.0, 1.1, 0.9)
    assert "median spacing per axis of 3 cases" in why


@pytest.mark.parametrize("spacing", [(1.0, 2.0, 2.0), (1.0, 1.0, 1.00000001), (5.0, 1.0, 1.0)])
def test_slices_are_slices_whatever_their_spacing(gather, case, spacing):
    made = plan_grid(gather([case(f"c{i}", (1, 40, 32), spacing) for i in range(3)]))
    assert made.axis_order == (0, 1, 2)
    assert made.shape[0] == 1
    assert "1 slice along it" in made.reasons["axis_order"]


def test_a_coarse_short_axis_takes_its_tenth_percentile(gather, case):
    # Spacings 4.0, 4.2, ... 6.0: median 5, 10th percentile 4.2.
    made = gather([case(f"c{i:02}", (20, 200, 200), (4.0 + 0.2 * i, 1.0, 1.0)) for i in range(11)])
    spacing, why = choose_spacing(made)
    assert spacing == pytest.approx((4.2, 1.0, 1.0))
    assert "5 mm against 1 mm" in why
    assert "4.2 mm" in why


def test_the_tenth_percentile_is_never_finer_than_the_other_axes(gather, case):
    thick = [case(f"c{i}", (200, 200, 20), (1.0, 1.0, 6.0)) for i in range(8)]
    made = gather([*thick, *(case(f"d{i}", (200, 200, 20), (1.0, 1.0, 0.5)) for i in range(2))])
    assert choose_spacing(made)[0] == (1.0, 1.0, 1.00001)
    assert plan_grid(made).axis_order == (2, 0, 1)  # the last axis still comes first


def test_a_coarse_axis_that_is_long_keeps_the_median(fingerprint):
    assert choose_spacing(fingerprint(3, (80, 200, 200), (5.0, 1.0, 1.0)))[0] == (5.0, 1.0, 1.0)


def test_the_coarsest_axis_comes_first(fingerprint):
    grid = plan_grid(fingerprint(3, (256, 240, 30), (0.9, 1.0, 5.0)))
    assert grid.axis_order == (2, 0, 1)
    assert grid.spacing == (5.0, 0.9, 1.0)
    assert grid.shape == (30, 256, 240)
    assert grid.is_coarse


def test_the_median_shape_is_that_of_resampled_cases(gather, case):
    made = gather([case("a", (100, 100, 100)), case("b", (50, 100, 100), (2.0, 1.0, 1.0)), case("c", (81, 90, 70))])
    assert plan_grid(made).shape == (100, 100, 100)


def test_stored_axes_are_planned_on_as_the_files_hold_them(gather, case):
    # A sagittal file (left-right, head-foot, front-back): its first axis is the third of the canonical ones.
    sagittal = case("a", (256, 240, 30), (0.9, 1.0, 5.0)).model_copy(update={"transpose": (1, 2, 0)})
    made = gather([sagittal])
    canonical, stored = plan_grid(made), plan_grid(made, "stored")
    assert (canonical.axis_order, stored.axis_order) == ((2, 0, 1), (0, 1, 2))
    assert canonical.spacing == stored.spacing == (5.0, 0.9, 1.0)
    assert canonical.shape == stored.shape == (30, 256, 240)
    assert "first stored axis" in stored.reasons["axis_order"]


# 3: normalisation


@pytest.mark.parametrize(("share", "inside"), [(0.5, True), (0.8, False)])
def test_zscore_stays_inside_the_mask_where_the_crop_removed_much(fingerprint, share, inside):
    channels, why = plan_normalization(fingerprint(3, (20, 30, 40), crop_share=share))
    assert (channels[0].scheme, channels[0].inside_mask) == ("zscore", inside)
    assert f"{share:.0%}" in why


def test_ct_takes_the_dataset_s_foreground(fingerprint):
    channels, _ = plan_normalization(fingerprint(3, (20, 30, 40), channels=("CT", "FLAIR")))
    ct = channels[0]
    assert (ct.scheme, ct.mean, ct.std, ct.lower, ct.upper) == ("ct", 50.0, 10.0, 5.0, 95.0)
    assert channels[1].scheme == "zscore"


def test_a_name_that_only_contains_ct_is_not_ct(fingerprint):
    channels, _ = plan_normalization(fingerprint(3, (20, 30, 40), channels=("ctrast", "DiffusionCT_b0")))
    assert [channel.scheme for channel in channels] == ["zscore", "zscore"]


def test_nnunet_knows_fewer_names_of_channels_with_an_absolute_scale(fingerprint):
    made = fingerprint(3, (20, 30, 40), channels=("CT", "CTA", "RGB", "rgb_to_0_1"))
    assert [channel.scheme for channel in plan_normalization(made)[0]] == ["ct", "ct", "rgb", "rgb"]
    assert [channel.scheme for channel in plan_normalization(made, "nnunet")[0]] == ["ct", "zscore", "zscore", "rgb"]


@pytest.fixture
def noisy(gather, case):
    """Three scans of 20 x 30 x 40 without a zero voxel; the head is half as long and takes 40 % of each."""

    def build(*, share=0.4, outside=0.0, crop_share=1.0):
        cases = [case(name, (20, 30, 40), crop_share=crop_share) for name in "abc"]
        head = HeadFacts(shape=(20, 15, 40), share=share, outside_share=0.0)
        cases = [found.model_copy(update={"head": head}) for found in cases]
        cases[1] = cases[1].model_copy(update={"head": head.model_copy(update={"outside_share": outside})})
        return gather(cases)

    return build


def test_scans_are_cropped_to_the_head_where_the_background_is_not_zero(noisy):
    region, why = plan_region(noisy())
    assert region == "head"
    assert "100% of the median scan, the head only 40%" in why
    plan = make_plan(noisy(), preset="standard", memory_gb=8)
    for configuration in plan.configurations.values():
        assert configuration.preprocessing.region == "head"
        assert configuration.preprocessing.channels[0].inside_mask
    cropped = [found.cropped_shape for found in crop_to_region(noisy(), region).cases]
    assert cropped == [(20, 15, 40)] * 3


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"share": 0.8}, "little background: the non-zero region keeps 100% of the median scan, the head 80%"),
        ({"outside": 0.02}, "2.00% of the labels of case b lie outside"),
        ({"crop_share": 0.5}, "The background is zero: the non-zero region keeps 50%"),
    ],
)
def test_scans_are_not_cropped_to_the_head_where(noisy, changes, word):
    region, why = plan_region(noisy(**changes))
    assert region == "nonzero"
    assert word in why


def test_measurements_without_the_head_and_nnunet_keep_the_non_zero_region(noisy, fingerprint):
    assert plan_region(fingerprint(3, (20, 30, 40)))[0] == "nonzero"
    plan = make_plan(noisy(), preset="standard", memory_gb=8, compat="nnunet")
    assert {c.preprocessing.region for c in plan.configurations.values()} == {"nonzero"}


# 5: first patch


def test_the_first_patch_has_the_same_extent_in_mm_and_the_volume_of_256_cubed():
    # scale = 256 * (4 * 1 * 2)^(1/3) = 512; 512 / spacing.
    assert first_patch((4.0, 1.0, 2.0), (999, 999, 999)) == (128, 512, 256)


def test_the_first_patch_is_clipped_to_the_median_case():
    assert first_patch((4.0, 1.0, 2.0), (20, 600, 90.5)) == (20, 512, 90.5)


# 6: topology


def test_isotropic_axes_are_halved_while_they_have_8_voxels():
    found = plan_topology((1.0, 1.0, 1.0), (36, 50, 35))  # 36 18 9 5; 50 25 13 7; 35 18 9 5
    assert found.pooling_steps == (3, 3, 3)
    assert found.patch == (40, 56, 40)
    assert found.kernels == ((3, 3, 3),) * 4
    assert found.strides == ((1, 1, 1), (2, 2, 2), (2, 2, 2), (2, 2, 2))


def test_a_coarse_axis_waits_and_has_kernel_1_until_the_others_catch_up():
    # 4 mm against 1: factors 4, 2, then 1 -> halved from the third step on, kernel 3 from then on.
    found = plan_topology((4.0, 1.0, 1.0), (16, 64, 64))
    assert found.kernels[:3] == ((1, 3, 3), (1, 3, 3), (3, 3, 3))
    assert found.strides[:4] == ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2))
    assert found.kernels[-1] == (3, 3, 3)
    assert found.pooling_steps == (2, 4, 4)


def test_a_lone_axis_is_halved_only_from_12_voxels_on():
    # In one more step the second axis would go on alone at 10 voxels (7 and 7 are too short): it stops.
    assert plan_topology((1.0, 1.0, 1.0), (14, 20, 14)).pooling_steps == (1, 1, 1)
    assert plan_topology((1.0, 1.0, 1.0), (14, 24, 14)).pooling_steps == (1, 2, 1)


def test_a_tiny_image_is_padded_and_still_halved_once():
    found = plan_topology((1.0, 1.0, 1.0), (2, 3, 5))
    assert found.patch == (4, 4, 6)
    assert found.pooling_steps == (1, 1, 1)


def test_features_double_up_to_the_limit():
    topology = plan_topology((1.0, 1.0, 1.0), (128, 128, 128))
    assert describe_network(STANDARD, topology, 32).features == (32, 64, 128, 256, 320, 320)
    flat = plan_topology((1.0, 1.0), (256, 256))
    assert describe_network(STANDARD, flat, 32).features == (32, 64, 128, 256, 512, 512, 512)
    assert describe_network(PRESETS["pocket"], topology, 16).features == (16, 32, 64, 128, 128, 128)


def test_residual_blocks_per_stage():
    network = describe_network(PRESETS["large"], plan_topology((1.0, 1.0, 1.0), (128, 128, 128)), 32)
    assert network.encoder_blocks == (1, 3, 4, 6, 6, 6)
    assert network.decoder_blocks == (1, 1, 1, 1, 1)


# 7: memory and arithmetic


def small_network(preset=STANDARD, base=2):
    return describe_network(preset, plan_topology((1.0, 1.0), (8, 8)), base)  # 2 stages, one halving


def test_convolution_outputs_counted_by_hand():
    network = small_network()  # features 2, 4 on 8 x 8 = 64 and 16 voxels
    # encoder 2 * 64 * 2 + 2 * 16 * 4, decoder 64 * 2 * (1 transposed + 2), head 64 * 3
    assert count_conv_elements(network, (8, 8), output_channels=3) == 256 + 128 + 384 + 192


def test_arithmetic_counted_by_hand():
    network = small_network()
    # taps per output, kernel 9: 5 channels in, then 2 | 2, 4 | transposed 4 | 2 * 2, 2 | head 2
    encoder = 128 * (9 * 5) + 128 * (9 * 2) + 64 * (9 * 2) + 64 * (9 * 4)
    decoder = 128 * 4 + 128 * (9 * 4) + 128 * (9 * 2) + 192 * 2
    assert count_gflop(network, (8, 8), 5, 3) * 1e9 == pytest.approx(2 * (encoder + decoder))


def test_a_training_step_costs_three_forward_passes_per_sample():
    assert step_gflop(2.0, 4) == 24.0


def test_the_budget_grows_with_memory():
    assert budget_elements(STANDARD, 3, 8) == 560e6
    assert budget_elements(STANDARD, 2, 4) == 42.5e6
    assert budget_elements(PRESETS["large"], 3, 12) == 1.05e9


# 8: batch


def problem(shape, spacing=(1.0, 1.0, 1.0), voxels=1e12, channels=1):
    spacing = spacing[3 - len(shape) :]
    return PatchProblem(spacing=spacing, shape=shape, dataset_voxels=voxels, input_channels=channels, output_channels=2)


def test_left_over_memory_makes_the_batch_larger():
    fit = fit_patch(problem((64.0, 64.0, 64.0)), STANDARD, memory_gb=8)
    # Outputs: 162 * 64^3 + 320 * 32^3 + 640 * 16^3 + 1280 * 8^3 + 640 * 4^3; 1120e6 / 56270848 = 19.9.
    assert fit.elements == 56270848
    assert fit.batch == 20


def test_a_batch_shows_at_most_a_twentieth_of_the_dataset():
    fit = fit_patch(problem((64.0, 64.0, 64.0), voxels=100 * 64**3), STANDARD, memory_gb=8)
    assert fit.batch == 5
    assert "5%" in fit.reasons["batch_size"]


def test_a_batch_of_two_is_the_least():
    fit = fit_patch(problem((64.0, 64.0, 64.0), voxels=64**3), STANDARD, memory_gb=8)
    assert fit.batch == 2


def test_slices_are_capped_at_64():
    fit = fit_patch(problem((128.0, 128.0)), PRESETS["large"], memory_gb=24)
    assert fit.batch == 64
    assert "wait for data" in fit.reasons["batch_size"]


def test_a_patch_of_slices_must_fit_at_the_preset_s_batch():
    # 160 x 192 slices cost 129e6 * 160 * 192 / 512^2 outputs; a budget of 1.5 GB holds 25e6 at a batch of 12.
    slices = problem((150.0, 190.0))
    plain, residual = (
        fit_patch(slices, find_preset(name, "nnunet"), memory_gb=0.8) for name in ("standard", "residual_m")
    )
    assert budget_elements(PRESETS["residual_m"], 2, 0.8) == 13.5e6
    assert residual.elements <= 13.5e6
    assert residual.batch >= 12
    # The plain planner only asks for a batch of 2: six times the outputs per sample.
    assert 8.5e6 < plain.elements <= 6 * 8.5e6
    assert plain.batch < 12


def test_short_axes_are_spared_unless_nnunet_s_rules_are_wanted():
    slab = problem((8.0, 640.0, 640.0), spacing=(4.0, 0.35, 0.35))
    ours, theirs = (fit_patch(slab, find_preset("standard", compat), memory_gb=8) for compat in (None, "nnunet"))
    assert ours.patch[0] == 8
    assert "no axis below 8 voxels" in ours.reasons["patch_size"]
    assert theirs.patch[0] < 8


def test_a_laptop_step_stays_within_its_arithmetic():
    for shape in ((171.0, 136.0), (140.0, 171.0, 136.0), (36.0, 50.0, 35.0)):
        fit = fit_patch(problem(shape, channels=4), PRESETS["pocket"], memory_gb=8)
        assert step_gflop(fit.gflop, fit.batch) <= 70


def test_padding_of_a_whole_brain_is_limited():
    # Multiples of 32 would be 160 x 192 x 160, 1.51 times the brain.
    brain = problem((140.0, 171.0, 136.0))
    fit = fit_patch(brain, PRESETS["large"], memory_gb=24)
    assert fit.patch == (160, 192, 144)
    assert "over 1.5 times the case" in fit.reasons["patch_size"]
    assert fit_patch(brain, find_preset("standard", "nnunet"), memory_gb=24).patch == (160, 192, 160)


def test_below_4_gb_the_patch_stays_that_of_4_gb_unless_nnunet_s_rules_are_wanted():
    brain = problem((140.0, 171.0, 136.0))
    assert fit_patch(brain, STANDARD, memory_gb=2).patch == fit_patch(brain, STANDARD, memory_gb=4).patch
    theirs = find_preset("standard", "nnunet")
    assert fit_patch(brain, theirs, memory_gb=2).patch != fit_patch(brain, theirs, memory_gb=4).patch


# 9b, 11: loss


@pytest.mark.parametrize(
    ("heads", "weights"),
    [(1, (1.0,)), (2, (1.0, 0.0)), (3, (0.6667, 0.3333, 0.0)), (5, (0.5333, 0.2667, 0.1333, 0.0667, 0.0))],
)
def test_heads_are_weighted_by_halves_and_the_coarsest_by_nothing(heads, weights):
    assert weigh_heads(heads) == weights


def test_dice_is_pooled_when_told_and_regions_take_binary_cross_entropy(fingerprint):
    plain = fingerprint(3, (20, 30, 40))
    regions = fingerprint(3, (20, 30, 40), regions={"whole": (1,)})
    network = small_network()
    pooled, why = plan_loss(plain, network, pooled=True, because="a slice may hold no lesion")
    assert (pooled.name, pooled.options) == ("dice_ce", {"batch_dice": True})
    assert why.startswith("Dice over the whole batch, because a slice may hold no lesion")
    single, why = plan_loss(regions, network, pooled=False, because="a patch shows 40%")
    assert (single.name, single.options) == ("dice_bce", {})
    assert why.startswith("Dice per sample, because a patch shows 40%")


# 12-13: sampling and augmentation


def test_many_small_lesions_are_sampled_one_by_one(fingerprint):
    sampling, why = plan_sampling(fingerprint(4, (20, 30, 40), lesions=(5.0, 0.05, 0.02)))
    assert sampling.foreground_share == sampling.lesion_share == 0.165
    assert "12 lesions, a median of 3 per case, 67% of them below 0.1 ml" in why


def test_nnunet_never_samples_by_lesion(fingerprint):
    sampling, _ = plan_sampling(fingerprint(4, (20, 30, 40), lesions=(5.0, 0.05, 0.02)), by_lesion=False)
    assert (sampling.foreground_share, sampling.lesion_share) == (0.33, 0.0)


def test_one_large_lesion_per_case_is_sampled_by_voxel(fingerprint):
    sampling, why = plan_sampling(fingerprint(4, (20, 30, 40), lesions=(5.0,)))
    assert (sampling.foreground_share, sampling.lesion_share) == (0.33, 0.0)
    assert "0 of 4 cases without lesions" in why
    assert sampling.empty_case_share is None


@pytest.mark.parametrize(
    ("empty", "cases", "quota"), [(0, 4, None), (1, 4, None), (2, 4, 0.25), (39, 40, 0.25), (4, 4, None)]
)
def test_cases_without_lesions_get_a_quota_where_they_are_many(fingerprint, empty, cases, quota):
    made = fingerprint(4, (20, 30, 40), lesions=(5.0,))
    made = made.model_copy(update={"lesions": made.lesions.model_copy(update={"cases": cases, "empty_cases": empty})})
    sampling, why = plan_sampling(made)
    assert sampling.empty_case_share == quota
    assert (f"would be {empty / cases:.0%} of all samples" in why) == (quota is not None)
    assert plan_sampling(made, by_lesion=False)[0].empty_case_share is None


@pytest.mark.parametrize(
    ("patch", "degrees", "in_plane"),
    [
        ((128, 128, 128), 30, False),
        ((20, 224, 192), 180, True),
        ((64, 192, 192), 30, False),
        ((192, 160), 180, False),
        ((192, 96), 15, False),
    ],
)
def test_rotation_follows_the_shape_of_the_patch(patch, degrees, in_plane):
    settings, why = plan_augmentation(patch, mirror_all(len(patch)))
    assert settings.rotation_degrees == (-degrees, degrees)
    assert settings.in_plane == in_plane
    assert settings.mirror_axes == tuple(range(len(patch)))
    assert f"up to {degrees} degrees" in why


# 14: tiling


def test_only_axes_that_may_be_mirrored_are():
    last = Mirroring(axes=(2,), reason="Mirrored along the left-right axis alone: 1 of 2.")
    assert plan_augmentation((64, 64, 64), last)[0].mirror_axes == (2,)
    tiling, why = plan_tiling(STANDARD, (64, 64, 64), (60.0, 60.0, 60.0), 1.0, last)
    assert tiling.mirror_axes == (2,)
    assert "both mirror images" in why


@pytest.fixture
def copied(gather, case):
    """Labels at 5 and 60 in channels around 50 (SD 10); case b has two equal channels, whose labels are at 58."""

    def shade(made, means):
        facts = made.channels[0].brain
        channels = [
            ChannelFacts(
                foreground=facts.model_copy(update={"mean": mean}),
                brain=facts.model_copy(update={"maximum": 100.0 + n * (len(set(means)) > 1)}),
            )
            for n, mean in enumerate(means)
        ]
        return made.model_copy(update={"channels": tuple(channels)})

    def build(*, equal=True, labelled=True):
        cases = [shade(case(name, (20, 30, 40)), (5.0, 60.0)) for name in "acd"]
        cases.append(shade(case("b", (20, 30, 40)), (58.0, 58.0) if equal else (5.0, 58.0)))
        if not labelled:
            bare = [found.model_copy(update={"foreground": None}) for found in cases[-1].channels]
            cases[-1] = cases[-1].model_copy(update={"channels": tuple(bare)})
        return gather(cases, channels=("T1", "FLAIR"))

    return build


def test_samples_imitate_cases_in_which_a_channel_is_a_copy(copied):
    still = AugmentationSettings(rotation_probability=0, rotation_degrees=(0, 0), scale_probability=0, mirror_axes=())
    settings, why = add_substitutions(copied(), still)
    assert settings.substitutions == ((1, 1),)  # the labels look as they do in FLAIR
    assert settings.substitution_probability == 0.2
    assert "In 1 case one channel is a copy of another (b), so 20% of all samples" in why
    assert "FLAIR for T1" in why
    plan = make_plan(copied(), preset="pocket", memory_gb=4)
    assert plan.configurations["3d"].augmentation.substitutions == ((1, 1),)
    assert plan.reasons["3d.augmentation"].endswith(why)
    nnunet = make_plan(copied(), preset="standard", memory_gb=8, compat="nnunet")
    assert nnunet.configurations["3d"].augmentation.substitutions == ()


@pytest.mark.parametrize("facts", [{"equal": False}, {"labelled": False}])
def test_no_channel_is_substituted_where_none_is_a_copy_or_nothing_tells_of_which(copied, facts):
    still = AugmentationSettings(rotation_probability=0, rotation_degrees=(0, 0), scale_probability=0, mirror_axes=())
    assert add_substitutions(copied(**facts), still) == (still, "")


def test_short_trainings_are_augmented_lightly():
    settings, why = plan_augmentation((64, 64, 64), mirror_all(3), light=True)
    assert (settings.rotation_degrees, settings.scale, settings.blur_probability) == ((-15, 15), (0.85, 1.25), 0.05)
    assert "up to 15 degrees" in why


def test_tiles_are_counted_at_half_a_tile_s_distance():
    assert count_tiles((128, 128), (128.0, 60.0)) == 1
    assert count_tiles((128, 128), (129.0, 192.0)) == 2 * 2
    assert count_tiles((40, 40, 40), (100.0, 40.0, 81.0)) == 4 * 1 * 4


def test_a_laptop_mirrors_only_what_takes_seconds():
    pocket = PRESETS["pocket"]
    # 1 tile x 8 mirror images x 10 GFLOP at 80 GFLOP/s: 1 s.
    every = mirror_all(3)
    assert plan_tiling(pocket, (40, 40, 40), (36.0, 36.0, 36.0), 10.0, every)[0].mirror_axes == (0, 1, 2)
    # 64 tiles: 64 s.
    settings, why = plan_tiling(pocket, (40, 40, 40), (100.0, 100.0, 100.0), 10.0, every)
    assert settings.mirror_axes == ()
    assert "64 s" in why
    assert plan_tiling(STANDARD, (40, 40, 40), (100.0, 100.0, 100.0), 10.0, every)[0].mirror_axes == (0, 1, 2)


def test_slices_are_tiled_one_by_one():
    _, why = plan_tiling(STANDARD, (64, 64), (30.0, 64.0, 64.0), 1.0, mirror_all(2))
    assert "30 tiles of 1 GFLOP" in why
