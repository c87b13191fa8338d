"""Records of transfer learning: settings of initial weights, the report on them, and pre-training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from autoseg.core.records.base import Record

Share = Field(ge=0, le=1)


class TransferSettings(Record):
    """Transfer settings of a configuration that starts from another model's weights.

    Attributes:
        source: model of the weights, as given by the user.
        weights: file of the initial weights, in ``transfer`` of the dataset's preprocessed folder; None where the
            network's own option ``weights`` names them.
        digest: SHA-256 of that file.
        mode: ``full`` trains everything; ``partial`` all but the encoder; ``head`` only what gives the logits;
            ``gradual`` all but the encoder first, and everything from ``unfreeze_share`` on. Frozen parts keep their
            weights, and their norms the running statistics.
        encoder_learning_rate_factor: of the learning rate, for the encoder while it is trained.
        freeze_statistics: the encoder's batch norms keep the running statistics that they begin with, while their
            weights are trained.
        unfreeze_share: of ``gradual``; share of the training after which the encoder is trained, too.
        least_share: of the parameters that must be loaded or adapted from that file.
    """

    source: str
    weights: str | None = None
    digest: str | None = None
    mode: Literal["full", "partial", "head", "gradual"] = "full"
    encoder_learning_rate_factor: float = Field(default=0.1, gt=0, le=1)
    freeze_statistics: bool = False
    unfreeze_share: float = Field(default=0.25, gt=0, lt=1)
    least_share: float = Field(default=0.5, ge=0, le=1)


class TransferReport(Record):
    """Report of the weights taken from another model; stored next to the initial weights.

    Attributes:
        schema_version: format version (``schema`` on disk).
        source: model of the weights, as given by the user.
        configuration: with these initial weights.
        parameters: number in the network.
        loaded, adapted, random: shares of them: as in the source; changed to fit; drawn from the seed.
        channels: channel of the dataset -> the source's channel that it takes, or ``mean`` of all of them.
        head: ``loaded``, or the reason for a random head.
        adapted_tensors: name -> changes.
        random_tensors: names.
        unused_tensors: names of the source's tensors without a counterpart.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    source: str
    configuration: str
    parameters: PositiveInt
    loaded: float = Share
    adapted: float = Share
    random: float = Share
    channels: dict[str, str]
    head: str
    adapted_tensors: dict[str, str] = Field(default_factory=dict)
    random_tensors: tuple[str, ...] = ()
    unused_tensors: tuple[str, ...] = ()


class Pretraining(Record):
    """Record of a pre-training without labels; stored in its folder.

    Attributes:
        schema_version: format version (``schema`` on disk).
        dataset, configuration: of the network's plan.
        task: ``masked_blocks``: reconstruct masked blocks of a patch.
        masked_share: of the blocks of a patch.
        block: voxels per axis of a block.
        identity: hash of the network, its input and the task; another one cannot resume from here.
        labelled, unlabelled: numbers of training cases.
    """

    schema_version: Literal[1] = Field(default=1, alias="schema")
    dataset: str
    configuration: str
    task: Literal["masked_blocks"] = "masked_blocks"
    masked_share: float = Field(gt=0, lt=1)
    block: tuple[PositiveInt, ...]
    identity: str
    labelled: NonNegativeInt
    unlabelled: NonNegativeInt
