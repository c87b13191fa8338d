"""What an experiment chose on out-of-fold predictions, how it is finished, and how far it can be believed."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.records import Calibration, CalibrationBin, Doubt, Experiment, PostProcessing
from autoseg.evaluation.postprocessing import describe_setting
from autoseg.reporting.html.axes import Axis
from autoseg.reporting.html.charts import Curve, Span, draw_reliability
from autoseg.reporting.html.content import ReportContent, ShownScores
from autoseg.reporting.html.markup import Child, Markup, element, join
from autoseg.reporting.html.numbers import DASH, show_range, show_value, show_volume, unit_of
from autoseg.reporting.html.page import build_table, fold_away, paragraph
from autoseg.reporting.html.scores import draw_means

NO_EXPERIMENT = (
    "Nothing was chosen yet: autoseg_run compares configurations and their ensembles on cases that they did not see."
)


def show_choice(content: ReportContent) -> Markup:
    """Candidates, the winner and the sentence on why."""
    found = content.experiment
    if found is None:
        return paragraph(NO_EXPERIMENT)
    spans = [
        Span(name=name, value=c.target, low=c.lower, high=c.upper, chosen=name == found.winner)
        for name, c in found.candidates.items()
    ]
    rows = [_show_candidate(name, found) for name in found.candidates]
    unit = unit_of(found.target_metric)
    heads = ("candidate", "members", "mean", "95 % interval", "to the winner", "p (Holm)")
    caption = f"Candidates by {found.target_metric}{f' ({unit})' if unit else ''}, on out-of-fold predictions"
    return join(
        [
            paragraph(element("strong", f"{found.winner} was chosen. "), found.reason),
            element("div", draw_means(spans, found.target_metric), class_="charts"),
            build_table(heads, rows, caption=caption, numbers=4),
            paragraph(
                "Differences are paired by case; p is of Wilcoxon's signed-rank test, corrected for the number of "
                "candidates. Where both masks are empty, overlap scores are ",
                "1." if found.empty_score == "one" else "undefined.",
            ),
        ]
    )


def _show_candidate(name: str, found: Experiment) -> list[Child]:
    candidate, metric = found.candidates[name], found.target_metric
    p = candidate.p_value
    difference = None if candidate.difference is None else f"{candidate.difference:+.3f}"
    return [
        f"{name} (chosen)" if name == found.winner else name,
        ", ".join(candidate.members),
        show_value(candidate.target, metric),
        show_range(candidate.lower, candidate.upper, metric),
        difference or DASH,
        DASH if p is None else f"{p:.3f}" if p >= 0.001 else "< 0.001",
    ]


def show_postprocessing(content: ReportContent) -> Markup:
    """What is done to masks, and what it gains."""
    found = content.experiment
    if found is None:
        return paragraph("Post-processing was not searched yet; autoseg_run does it.")
    metric, before, after = found.target_metric, found.target_before, found.target_after
    steps = {
        label: describe_setting(setting)
        for label, setting in found.postprocessing.items()
        if setting != PostProcessing()
    }
    gain = None if before is None or after is None else after - before
    measured = (
        f"{metric} {show_value(before, metric)} without, {show_value(after, metric)} with post-processing"
        f"{f' ({gain:+.3f})' if gain is not None else ''}. The latter is by leave-one-fold-out: what is done to a case "
        "was chosen on the other folds."
    )
    if not steps:
        return join([paragraph("No post-processing helped, so none is done."), paragraph(measured)])
    rows: list[list[Child]] = [[label, said] for label, said in steps.items()]
    table = build_table(("label", "its mask, in this order"), rows, caption="Post-processing")
    return join([paragraph(measured), table])


def show_calibration(content: ReportContent) -> Markup:
    """The reliability curve before and after the temperature."""
    if content.experiment is None:
        return paragraph("Probabilities were not calibrated yet; autoseg_run does it.")
    found = content.experiment.calibration
    if found is None:
        return paragraph("No voxel was predicted as foreground, so there is no calibration.")
    curves = [
        Curve(name="as predicted", points=_list_points(found.bins_before), number=1),
        Curve(name=f"with temperature {found.temperature:.3g}", points=_list_points(found.bins_after), number=0),
    ]
    across = Axis(name="mean probability of foreground", low=0, high=1)
    up = Axis(name="share that is foreground", low=0, high=1)
    chart = draw_reliability(curves, across, up, title="Calibration on out-of-fold predictions")
    return join([paragraph(_describe_calibration(found)), element("div", chart, class_="charts")])


def _describe_calibration(found: Calibration) -> str:
    measured = "; measured on each fold with the temperature of the others" if found.fold_temperatures else ""
    return (
        f"On the dotted line a probability is what it says: of voxels at 0.7, seven in ten are foreground. Where a "
        f"curve lies below the line, fewer are than it says; above, more. The expected calibration error is "
        f"{found.error_before:.4f} as predicted, and {found.error_after:.4f} with logits divided by the temperature "
        f"{found.temperature:.3g}{measured}."
    )


def _list_points(bins: Sequence[CalibrationBin]) -> tuple[tuple[float, float], ...]:
    return tuple(
        (each.confidence, each.frequency) for each in bins if each.confidence is not None and each.frequency is not None
    )


def show_doubts(content: ReportContent) -> Markup:
    """Cases worth a human's look, most doubtful first; each leads to its row among the cases."""
    if content.experiment is None:
        return paragraph("Cases worth a human's look were not listed yet; autoseg_run does it.")
    doubts, metric = content.experiment.doubts, content.experiment.target_metric
    if not doubts:
        return paragraph("No case stands out.")
    rows: list[list[Child]] = [
        [
            _link_case(doubt.case, content.shown),
            doubt.reason,
            show_value(doubt.disagreement),
            show_volume(doubt.uncertain_ml),
            doubt.uncertain_lesions,
            show_value(doubt.expected_dice),
            show_value(doubt.target, metric),
        ]
        for doubt in doubts
    ]
    heads = ("case", "why", "disagreement", "uncertain (ml)", "uncertain lesions", "expected Dice", metric)
    return join(
        [
            build_table(heads, rows, caption="Cases worth a look, most doubtful first", numbers=5),
            _list_lesions(doubts),
            paragraph(
                "Disagreement is 1 - mean Dice between the masks of the members or folds. Uncertain are voxels whose "
                "probability lies between 0.2 and 0.8, and lesions whose mean probability is below 0.6. The expected "
                "Dice is that of the foreground if the probabilities are right."
            ),
        ]
    )


def _list_lesions(doubts: Sequence[Doubt]) -> Markup | None:
    """Where to look: every doubtful lesion with its place in the scan."""
    rows: list[list[Child]] = [
        [
            doubt.case,
            ", ".join(f"{mm:.1f}" for mm in lesion.centre),
            show_volume(lesion.volume_ml),
            show_value(lesion.probability),
            show_value(lesion.agreement),
        ]
        for doubt in doubts
        for lesion in doubt.lesions
    ]
    if not rows:
        return None
    heads = ("case", "centre x, y, z (mm, LPS)", "volume (ml)", "mean probability", "share of masks with it")
    caption = "Predicted lesions in doubt"
    return fold_away(caption, build_table(heads, rows, caption=caption, numbers=4))


def _link_case(case: str, shown: ShownScores | None) -> Child:
    names = [] if shown is None else [scored.case for scored in shown.scores.cases]
    return element("a", case, href=f"#case-{names.index(case)}") if case in names else case
