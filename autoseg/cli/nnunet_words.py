"""nnU-Net's options and configurations, each answered with ours."""

from __future__ import annotations

from collections.abc import Sequence

from autoseg.core.choices import NNUNET_CONFIGURATIONS

RESUMES = "the same command resumes, so leave it out"
BY_MACHINE = "processes are chosen from cores and memory, so leave it out"
WEIGHTS = "the weights of the finished training are used, so leave it out"
CHECKED = "autoseg_plan always checks every case, so leave it out"

# Option of nnU-Net's -> what to do, where a command has no option of that name.
ANSWERS = {
    "--disable_tta": "use --no-mirror",
    "--save_probabilities": "use --probabilities",
    "--npz": "use --probabilities",
    "--continue_prediction": RESUMES,
    "--c": RESUMES,
    "--val": "the same command predicts and scores the held-out cases of a trained fold, so leave it out",
    "--val_best": WEIGHTS,
    "--disable_checkpointing": "set training.checkpoint_minutes in plan.json",
    "--disable_progress_bar": "use --quiet",
    "--no_pbar": "use --quiet",
    "--not_on_device": "memory is chosen by size, so leave it out",
    "--chill": "use --allow-missing, which scores a missing mask as the worst possible",
    "--disable_ensembling": "an ensemble is kept only where it is better than its members, so leave it out",
    "--no_overwrite": RESUMES,
    "--verbose": "leave it out, or use --quiet for less",
    "--verify_dataset_integrity": CHECKED,
    "--no_pp": "use --dry-run to plan without preprocessing",
    "--clean": "arrays are rebuilt where the plan changes, so leave it out",
    "-chk": WEIGHTS,
    "-device": "use --device",
    "-num_gpus": "use --devices",
    "-num_parts": "use --part N/M",
    "-part_id": "use --part N/M, where N counts from 1",
    "-step_size": "use --step",
    "-prev_stage_predictions": "a cascade predicts its first stage itself, so leave it out",
    "-npp": BY_MACHINE,
    "-nps": BY_MACHINE,
    "-np": "use --workers",
    "-npfp": "use --workers",
    "-gpu_memory_target": "use --memory",
    "-pl": "use --preset",
    "-preprocessor_name": "edit preprocessing in plan.json",
    "-overwrite_target_spacing": "edit preprocessing.spacing in plan.json",
    "-overwrite_plans_name": "one dataset has one plan; import it again under another name for a second one",
    "-fpe": "leave it out",
    "-plans_name": "one dataset has one plan, so leave it out",
    "-djfile": "dataset.json is found beside the folder of labels, so leave it out",
    "-pfile": "leave it out",
    "-m": "copy that folder below autoseg_results/NAME, then use -d NAME -c CONFIGURATION",
    "-pretrained_weights": "use autoseg_plan --pretrained MODEL, then train 3d_transfer",
    "-tr": "there are no trainer classes; edit the configuration in plan.json",
    "-p": "one dataset has one plan, so leave it out; name a configuration with -c",
    "-c": "every configuration is planned and preprocessed, so leave it out",
}


def explain_configuration(argv: Sequence[str], sentence: str) -> str:
    """A clause for a command that failed because of one of nnU-Net's names of configurations; else nothing."""
    names = [word for word in argv if word in NNUNET_CONFIGURATIONS and word in sentence]
    return f"; nnU-Net's {names[0]} is named {NNUNET_CONFIGURATIONS[names[0]]} here" if names else ""
