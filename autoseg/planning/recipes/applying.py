"""Apply a recipe to a dataset's plan: one configuration more, with the reason of every value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from autoseg.core.errors import PlanError
from autoseg.core.records import (
    AugmentationSettings,
    Configuration,
    Fingerprint,
    LossSettings,
    MemoryFacts,
    NetworkSettings,
    Plan,
    PreprocessingSettings,
    ScoringSettings,
    TilingSettings,
)
from autoseg.planning.folds import DEFAULT_COUNT
from autoseg.planning.imagenet import ENCODER, PACKAGES, AtHand
from autoseg.planning.presets import find_preset
from autoseg.planning.pricing import Cost, price_configuration
from autoseg.planning.recipes.registry import Recipe, read_recipe
from autoseg.planning.spacing import plan_grid
from autoseg.planning.storage import find_prepared_shape
from autoseg.planning.text import join, join_words
from autoseg.planning.topology import NO_LIMIT, Topology, describe_network, plan_topology
from autoseg.planning.training import weigh_heads

BASES = {2: ("2d", "3d"), 3: ("3d",)}
STAND_IN = "_lite0"  # after the name of a recipe whose ImageNet weights are not on this machine


@dataclass(frozen=True, kw_only=True)
class DatasetDefaults:
    """Values of the dataset's plan that a recipe builds on.

    Attributes:
        base: the planned configuration that completes the recipe.
        preprocessing: of the recipe's configuration.
        shape: the median case on that grid, voxels per axis of the recipe.
        spacing: mm per axis of the recipe.
        slices: first axis of all cases together on that grid.
        cases: how many there are.
    """

    base: Configuration
    preprocessing: PreprocessingSettings
    shape: tuple[float, ...]
    spacing: tuple[float, ...]
    slices: int
    cases: int


def add_recipes(
    plan: Plan, fingerprint: Fingerprint, names: Sequence[str], cost: Cost | None, at_hand: AtHand | None = None
) -> Plan:
    """The plan with a configuration for each recipe; one that is impossible has its reason among the plan's reasons.

    A recipe on an image encoder whose ImageNet weights are not on this machine gets a stand-in beside it, on another
    encoder whose weights are.

    Args:
        plan: of the dataset.
        fingerprint: that it was made from.
        names: of recipes; each is also the name of its configuration.
        cost: prices a step; None predicts nothing.
        at_hand: whether ImageNet weights of an encoder are on this machine; None plans no stand-in.

    Raises:
        UsageError: there is no such recipe.
    """
    configurations, reasons, memory = dict(plan.configurations), dict(plan.reasons), dict(plan.memory)
    recipes = {name: read_recipe(name) for name in names}
    for name in names:
        stand_in = None if at_hand is None else find_stand_in(name, recipes[name], at_hand)
        if stand_in is not None:
            recipes[f"{name}{STAND_IN}"] = stand_in
    for name, recipe in recipes.items():
        try:
            defaults = _find_defaults(plan, fingerprint, recipe)
            configurations[name], reason = _configure(plan, recipe, defaults)
            if cost is not None:
                priced_gb = price_configuration(plan, configurations[name], cost, input_channels=len(plan.channels))
                memory[name] = MemoryFacts(predicted_gb=round(priced_gb, 2))
                reason["memory"] = _explain_memory(memory[name].predicted_gb, plan.memory_gb)
        except PlanError as error:
            configurations.pop(name, None)
            reasons[name] = f"{str(error)[:1].upper()}{str(error)[1:]}."
            continue
        reasons |= {f"{name}.{key}": sentence for key, sentence in reason.items()}
    update = {"configurations": configurations, "reasons": reasons, "memory": memory, "recipes": tuple(names)}
    return plan.model_copy(update=update)


def find_stand_in(name: str, recipe: Recipe, at_hand: AtHand) -> Recipe | None:
    """The recipe on an encoder whose ImageNet weights are on this machine; None where it needs none, or there is none.

    Args:
        name: of the recipe.
        recipe: a stand-in is for those that begin, or may have begun, with ImageNet weights.
        at_hand: whether ImageNet weights of an encoder are on this machine.
    """
    options = recipe.network.options
    if options.get("weights") is None and "weights to begin with" not in recipe.assumed:
        return None
    if at_hand(options["encoder"]) or not at_hand(ENCODER):
        return None
    departs = (
        f"This is a stand-in for {name}, on {ENCODER} with ImageNet weights, because those of {options['encoder']} are "
        f"not on this machine. {recipe.departs}"
    )
    network = recipe.network.model_copy(update={"options": {**options, "encoder": ENCODER, "weights": "imagenet"}})
    return recipe.model_copy(update={"network": network, "departs": departs})


def describe_stand_in(plan: Plan, name: str) -> str:
    """Advice where the ImageNet weights of a recipe cannot be had: one clause."""
    stand_in = f"{name}{STAND_IN}"
    if stand_in in plan.configurations:
        return f"train its stand-in {stand_in}"
    return f"install its stand-in's with: pip install {PACKAGES}, plan again and train {stand_in}"


def _find_defaults(plan: Plan, fingerprint: Fingerprint, recipe: Recipe) -> DatasetDefaults:
    base = next((plan.configurations[name] for name in BASES[recipe.dimensions] if name in plan.configurations), None)
    if base is None:
        raise PlanError(
            f"recipe '{recipe.system}' requires volumes, but the cases of this dataset are single slices; choose a 2D "
            f"recipe"
        )
    preprocessing = base.preprocessing
    first, second, third = preprocessing.spacing
    update: dict[str, object] = {"spacing": (None if recipe.dimensions == 2 else first, second, third)}
    if recipe.orientation is not None and recipe.orientation != preprocessing.orientation:
        update |= _turn(fingerprint, preprocessing, recipe.orientation, recipe.dimensions)
    preprocessing = preprocessing.model_copy(update=update)
    shapes = [find_prepared_shape(case, preprocessing) for case in fingerprint.cases]
    axes = slice(3 - recipe.dimensions, 3)
    first_spacing = fingerprint.cases[0].spacing[preprocessing.axis_order[0]]
    spacing = tuple(first_spacing if s is None else s for s in preprocessing.spacing)
    return DatasetDefaults(
        base=base,
        preprocessing=preprocessing,
        shape=tuple(sorted(shape[axis] for shape in shapes)[len(shapes) // 2] for axis in range(3))[axes],
        spacing=spacing[axes],
        slices=sum(shape[0] for shape in shapes),
        cases=len(shapes),
    )


def _turn(
    fingerprint: Fingerprint, settings: PreprocessingSettings, orientation: str, dimensions: int
) -> dict[str, object]:
    """The same grid rules on axes as they are stored, or turned to the canonical order."""
    grid = plan_grid(fingerprint, orientation)  # type: ignore[arg-type]
    first, second, third = grid.spacing
    return {
        "orientation": orientation,
        "axis_order": grid.axis_order,
        "spacing": (None if dimensions == 2 else first, second, third),
    }


def _configure(plan: Plan, recipe: Recipe, defaults: DatasetDefaults) -> tuple[Configuration, dict[str, str]]:
    network, patch = _fit_network(plan, recipe, defaults)
    loss, why_loss = _fit_loss(plan, recipe)
    if network.deep_supervision:
        loss = loss.model_copy(update={"deep_supervision_weights": weigh_heads(len(network.features) - 1)})
    per_case = defaults.slices / defaults.cases if recipe.dimensions == 2 else 1.0
    samples = defaults.cases * (DEFAULT_COUNT - 1) / DEFAULT_COUNT * per_case
    steps = max(1, math.ceil(samples / recipe.batch_size))
    scoring, why_scoring = _fit_scoring(recipe, defaults)
    augmentation = recipe.augmentation
    if augmentation is None:
        augmentation = _fit_augmentation(defaults.base, recipe.dimensions)
    configuration = Configuration(
        dimensions=recipe.dimensions,
        preprocessing=defaults.preprocessing,
        patch_size=patch,
        batch_size=recipe.batch_size,
        network=network,
        loss=loss,
        optimiser=recipe.optimiser,
        training=recipe.training.model_copy(update={"steps_per_epoch": steps}),
        sampling=recipe.sampling,
        augmentation=augmentation,
        tiling=TilingSettings(tile_size=patch),
        scoring=scoring,
    )
    reasons = {
        "recipe": f"{recipe.system}. {recipe.departs}",
        "patch_size": f"{join(patch)} voxels; {_explain_patch(recipe)}.",
        "training": (
            f"An epoch is one pass over the about {samples:.0f} {'slices' if recipe.dimensions == 2 else 'cases'} that "
            f"a fold trains on, in batches of {recipe.batch_size}."
        ),
        "loss": why_loss,
        "scoring": why_scoring,
    }
    if recipe.assumed:
        reasons["assumed"] = (
            f"The system does not state {join_words(recipe.assumed)}; these values are ours, as are "
            f"preprocessing and tiling, which follow the plan."
        )
    return configuration, reasons


def _fit_network(plan: Plan, recipe: Recipe, defaults: DatasetDefaults) -> tuple[NetworkSettings, tuple[int, ...]]:
    """The network, with the topology that is stated, fixed or planned; and its patch."""
    # Imports torch, which workers of a plan never need.
    from autoseg.networks import fit_settings, network_traits

    stated, traits, size = recipe.network, network_traits(recipe.network.name), _find_size(recipe, defaults)
    if stated.features:
        topology = _halve_all(len(stated.features), size)
    else:
        most = NO_LIMIT if traits.most_halvings is None else traits.most_halvings
        topology = plan_topology(defaults.spacing, size, [most] * recipe.dimensions)
    down, up = traits.usual_blocks if stated.blocks is None else ((stated.blocks[0],), (stated.blocks[1],))
    preset = find_preset(plan.preset, plan.compat)
    preset = replace(preset, network=stated.name, encoder_blocks=down, decoder_blocks=up)
    settings = describe_network(preset, topology, preset.base_features)
    update: dict[str, object] = {"deep_supervision": stated.deep_supervision, "options": stated.options}
    update["features"] = stated.features or traits.usual_features(settings.features)
    if not stated.features:
        update["strides"] = traits.usual_strides(settings.strides)
    settings = settings.model_copy(update=update)
    if traits.fixed is not None:
        settings = traits.fixed(settings)
    unpadded = size if stated.features or traits.fixed is not None else topology.patch
    divisors = [math.prod(axis) for axis in zip(*settings.strides, strict=True)]
    patch = tuple(math.ceil(n / divisor) * divisor for n, divisor in zip(unpadded, divisors, strict=True))
    return fit_settings(settings, dimensions=recipe.dimensions, patch=patch), patch


def _halve_all(stages: int, size: tuple[int, ...]) -> Topology:
    """A topology whose stages, except the first, halve every axis, as systems state them."""
    axes = len(size)
    strides = ((1,) * axes, *((2,) * axes,) * (stages - 1))
    return Topology(kernels=((3,) * axes,) * stages, strides=strides, patch=size)


def _find_size(recipe: Recipe, defaults: DatasetDefaults) -> tuple[int, ...]:
    if recipe.patch_size == "plan":
        return defaults.base.patch_size
    if recipe.patch_size == "case":
        return tuple(int(n) for n in defaults.shape)
    return tuple(recipe.patch_size)


def _fit_augmentation(base: Configuration, dimensions: int) -> AugmentationSettings:
    """The plan's augmentation, adapted to slices where the plan has volumes only."""
    if base.dimensions == dimensions:
        return base.augmentation
    mirrored = tuple(axis - 1 for axis in base.augmentation.mirror_axes if axis > 0)
    return base.augmentation.model_copy(update={"mirror_axes": mirrored, "in_plane": False})


def _fit_loss(plan: Plan, recipe: Recipe) -> tuple[LossSettings, str]:
    """The loss for this dataset's outputs."""
    loss = recipe.loss_of_regions if plan.regions else recipe.loss
    outputs = len(plan.outputs.names)
    weights = loss.options.get("class_weights")
    reason = f"{loss.name}, as in the system."
    if weights is not None and len(weights) != outputs:
        options = {key: value for key, value in loss.options.items() if key != "class_weights"}
        loss = loss.model_copy(update={"options": options})
        reason = (
            f"{loss.name}, as in the system, but without its class weights: there are {len(weights)}, and this dataset "
            f"has {outputs} outputs."
        )
    return loss, reason


def _fit_scoring(recipe: Recipe, defaults: DatasetDefaults) -> tuple[ScoringSettings, str]:
    """The system's metrics; on cases that are single slices also its protocol."""
    reported = join_words(recipe.metrics)
    if defaults.slices > defaults.cases:
        reason = f"The system reports {reported}; here they are computed per volume."
        return ScoringSettings(metrics=recipe.metrics), reason
    reason = (
        f"Every case is a single slice, so scores follow the system's protocol: {reported} per slice, and an empty "
        f"prediction of an empty slice scores 1."
    )
    return ScoringSettings(preset="slices", metrics=recipe.metrics), reason


def _explain_memory(needed_gb: float, budget_gb: float) -> str:
    over = "" if needed_gb <= budget_gb else " That exceeds the budget, but a recipe is never made cheaper."
    return f"A training step is predicted to need {needed_gb:.2f} GB of the {budget_gb:g} GB.{over}"


def _explain_patch(recipe: Recipe) -> str:
    if recipe.patch_size == "case":
        return "the median case, padded to multiples of the network's strides"
    if recipe.patch_size == "plan":
        return "as planned, because the system states no size that suits every dataset"
    return "as the system states"
