"""A run's configuration: one model, flat kebab-case keys, every value checked with a message that names its key."""

from __future__ import annotations

import difflib
import math
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fedcomp.codecs import NO_CODEC, parse_codec
from fedcomp.config.contradictions import contradictions
from fedcomp.config.vocabulary import AUTO, PRETRAINING, RESOLVED_KEYS, STUDENT_BITS
from fedcomp.errors import CodecSpecError, ConfigError, UsageError
from fedcomp.network import check_availability, parse_mix
from fedcomp.run_files import CONFIG_FILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DESCRIBED_IN = "docs/configuration.md"
PATH_KEYS = ("out-dir", "data-dir", "proxy-dir", "frame-keys")
_RESUME_KEYS = (*PATH_KEYS, "resume", "client-timeout", "round-timeout", "client-wait")
"""What may change when a run is resumed: where things are, and how patient it is."""


def _kebab(name: str) -> str:
    return name.replace("_", "-")


def cosine_factor(progress: float) -> float:
    """Return what is left of a rate that falls along a cosine, from 1 at progress 0 to 0 at 1."""
    return 0.5 * (1 + math.cos(math.pi * progress))


class RunConfig(BaseModel):
    """Everything that decides about a run.

    Valid for ``fedcomp simulate`` and, as ``--run-config``, for ``flwr run``. Values are bool, int, float and str, as
    Flower's run configurations hold nothing else. Read it with `from_toml` or `from_mapping`, which raise
    `ConfigError`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, alias_generator=_kebab, allow_inf_nan=False)

    name: str = Field("demo", min_length=1, pattern=r"^[\w.-]+$", description="name of the run, part of its folder's")
    seed: int = Field(0, ge=0, lt=2**31, description="all randomness derives from it")
    out_dir: str = Field("", description="the run's folder; empty is runs/NAME-DATE-TIME")
    resume: bool = Field(False, description="go on with the run in out-dir after its last checkpoint")

    deployed: bool = Field(
        False, description="real clients, which come and go with data of their own; `python -m server` sets it"
    )
    client_wait: float = Field(
        60.0, ge=0, description="deployed: seconds for all num-clients to come, then min-replies of them are enough"
    )

    dataset: str = Field("digits", description="digits, mnist, fashion-mnist, npz or hf:OWNER/NAME")
    data_dir: str = Field("", description="where the data set's files are; empty looks in the usual places")
    num_clients: int = Field(20, ge=1, description="clients the data is partitioned over")
    partition: Literal["dirichlet", "iid", "shards"] = Field("dirichlet", description="how labels are spread")
    dirichlet_alpha: float = Field(0.5, gt=0, description="small is skewed")
    label_fraction: float = Field(0.5, gt=0, le=1, description="share of each client's images that keep their label")
    validation_size: int = Field(100, ge=0, description="labelled images held out at the server")
    proxy_size: int = Field(300, ge=0, description="unlabelled images to distill on")
    proxy_dataset: str = Field(
        "", description="where they are from: empty holds them out; a data set as `dataset`; generated from the model"
    )
    proxy_dir: str = Field("", description="where that data set's files are, as `data-dir`")
    proxy_views: int = Field(
        4, ge=1, description="of each proxy image, all answered by the teacher: itself, others with a part of another"
    )

    model: str = Field(
        "cnn-gn",
        description="perceptron, cnn-gn, resnet8-gn, cnn, mobilenet-v2, efficientnet-lite0, torchvision:NAME, "
        "timm:NAME, run:FOLDER (the backbone that an earlier run has trained) or package.module:callable; "
        "simplex:MODEL puts a fixed head on any of them",
    )
    device: str = Field("cpu", description="torch device of the clients")
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32", description="of the clients' forward and backward passes; auto takes the fastest, once a run"
    )
    memory_format: Literal["channels-last", "contiguous", "auto"] = Field(
        "channels-last", description="of convolutions while clients train; auto takes the fastest, once a run"
    )
    client_threads: int = Field(1, ge=0, description="torch threads of a client; 0 is torch's own choice")
    num_server_rounds: int = Field(50, ge=1, description="rounds")
    fraction_train: float = Field(1.0, gt=0, le=1, description="share of the clients in each round")
    min_replies: int = Field(1, ge=1, description="fewest good updates for a round to count")
    client_timeout: float = Field(600.0, gt=0, description="seconds for one client in a simulation")
    round_timeout: float = Field(
        3600.0, gt=0, description="most real seconds of a round, for when something hangs; see round-deadline"
    )
    round_deadline: float = Field(
        0.0,
        ge=0,
        description="seconds until a round goes on without late replies, simulated ones with network; 0 is none",
    )
    checkpoint_every: int = Field(1, ge=1, description="rounds between two checkpoints")
    evaluate_on: Literal["test", "validation"] = Field(
        "test", description="what accuracy is measured on; validation is for choosing hyperparameters"
    )
    evaluate_every: int = Field(1, ge=1, description="rounds between two evaluations; the last ten are always done")

    local_epochs: int = Field(2, ge=1, description="passes over a client's data in a round")
    batch_size: int = Field(16, ge=1, description="labelled images a step")
    unlabelled_ratio: int = Field(2, ge=1, description="unlabelled images a step, as a multiple of batch-size")
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="the clients' optimizer")
    learning_rate: float = Field(0.05, gt=0, description="of the clients")
    learning_rate_schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="of the clients, over the rounds; cosine falls to zero"
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="of the clients' SGD")
    weight_decay: float = Field(5e-4, ge=0, description="of the clients")
    proximal_mu: float = Field(0.0, ge=0, description="FedProx's pull towards the global model; 0 is off")
    dyn_alpha: float = Field(0.1, gt=0, description="of strategy feddyn: how strongly clients are held together")
    frozen: str = Field(
        "", description="patterns of tensors' names, comma-separated: they neither train nor travel (`backbone.*`)"
    )
    local_layers: str = Field(
        "", description="patterns, too: these train, and stay at their client, as in FedPer (`head.*`)"
    )
    personal_share: float = Field(
        0.2, gt=0, lt=1, description="share of its labelled images that a client with local-layers is measured on"
    )
    cache_features: bool = Field(
        True, description="clients keep what a frozen backbone makes of images that are not augmented"
    )
    max_grad_norm: float = Field(0.0, ge=0, description="gradients are clipped to it; 0 is off")
    static_batch_norm: bool = Field(
        False, description="BatchNorm statistics are no part of training: the server measures them on images of its own"
    )
    objective: Literal[
        "supervised", "pseudo-label", "fixmatch", "freematch", "uda", "mean-teacher", "simsiam", "rotation"
    ] = Field(
        "fixmatch",
        description="what clients minimize: a choice of the parts that follow; simsiam and rotation pretrain without "
        "any label",
    )
    pseudo_labels: Literal["auto", "live", "teacher", "broadcast"] = Field(
        "auto", description="who guesses: the model in training, the received one, or that one once a round"
    )
    threshold: Literal["auto", "fixed", "adaptive"] = Field(
        "auto",
        description="which guesses are trusted: above pseudo-threshold, or above thresholds of the client's own",
    )
    pseudo_threshold: float = Field(0.95, ge=0, le=1, description="confidence from which a fixed threshold trusts")
    threshold_decay: float = Field(
        0.99, ge=0, le=1, description="of adaptive thresholds, a step; 1 keeps what the round began with"
    )
    pseudo_mixing: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="of trusted images with each other, and of their guesses"
    )
    learned_view: Literal["auto", "weak", "strong"] = Field(
        "auto", description="on which views guesses are learned; auto is the objective's own"
    )
    pseudo_temperature: float = Field(0.4, ge=0, le=1, description="of uda's and mean-teacher's guesses; 0 is a label")
    teacher_decay: float = Field(
        1.0, ge=0, le=1, description="of the teacher's moving average of weights; 1 is the received model"
    )
    unlabelled_weight: float = Field(1.0, ge=0, description="weight of the loss on guesses")
    mix_weight: float = Field(0.0, ge=0, description="weight of mixup between trusted guesses, as in SemiFL; 0 is off")
    fairness_weight: float = Field(0.0, ge=0, description="weight of FreeMatch's fairness; 0 is off")
    augment: bool = Field(True, description="labelled images are shifted, and flipped where that keeps the label")
    strong_operations: int = Field(2, ge=0, description="RandAugment operations of a strong view")
    strong_magnitude: float = Field(1.0, ge=0, le=1, description="their largest strength")
    label_smoothing: float = Field(0.0, ge=0, lt=1, description="share of a label that is spread over all classes")
    mixing: Literal["none", "mixup", "cutmix"] = Field("none", description="of labelled images with each other")
    mix_alpha: float = Field(0.75, gt=0, description="of the Beta distribution of mixing, pseudo-mixing and mix-weight")
    weight_by: Literal["examples", "confident"] = Field(
        "examples", description="a client's weight in the mean: its examples, or its labels and trusted guesses"
    )

    labels_at: Literal["clients", "server"] = Field(
        "clients", description="who has labels; at the server means that clients have none"
    )
    server_labels: int = Field(0, ge=0, description="labelled images that the server trains on, balanced over classes")
    fine_tune_epochs: int = Field(
        0, ge=0, description="passes over server-labels after each aggregation, and before the first round"
    )
    fine_tune_batch_size: int = Field(32, ge=1, description="labelled images a step of these")
    fine_tune_learning_rate: float = Field(0.02, gt=0, description="of these, on the clients' schedule")
    warm_up_epochs: int = Field(
        0, ge=0, description="instead of fine-tune-epochs before the first round; their rate falls along a cosine"
    )
    warm_up_learning_rate: float = Field(0.03, gt=0, description="of the first of these")

    strategy: Literal["fedavg", "fedavgm", "fedadam", "fedyogi", "fedadagrad", "feddyn"] = Field(
        "fedavg", description="Flower strategy that takes the server's step, or feddyn"
    )
    server_learning_rate: float = Field(1.0, gt=0, description="of the strategy; fedavg has none")
    server_momentum: float = Field(0.0, ge=0, lt=1, description="of fedavgm")

    codec: str = Field(
        "topk(density=0.08) | ternary", description="codec text, preset name, or none for plain float32 arrays"
    )
    downlink: str = Field(NO_CODEC, description="codec of what clients are sent, as `codec`; none for plain arrays")
    downlink_full: str = Field(
        "",
        description="of whole models, for clients that hold none; without a transform; empty is q8, or `downlink` "
        "itself if that drops nothing",
    )
    downlink_cache_bytes: int = Field(1 << 31, ge=0, description="of clients' models that the server keeps")
    downlink_max_lag: float = Field(
        10.0, gt=0, description="rounds that a client may stay behind; beyond, it is sent a whole model"
    )
    shared_initial: bool = Field(True, description="clients build the initial model themselves: it is not sent")
    uplink_budget_bytes: int = Field(0, ge=0, description="most bytes of an update; the codec fills them; 0 is off")
    target_ratio: float = Field(0.0, ge=0, description="the same, as what plain arrays take over it; 0 is off")
    downlink_budget_bytes: int = Field(0, ge=0, description="most bytes of a model's difference; 0 is off")
    downlink_target_ratio: float = Field(0.0, ge=0, description="the same, as what plain arrays take over it; 0 is off")
    budget_growth: float = Field(
        1.0, gt=0, le=1e6, description="the last round's budget over the first one's; over all rounds it is what it is"
    )
    budget_by_weight: float = Field(
        0.0, ge=0, le=2, description="1: an update's bytes in proportion to its client's weight; 0: all have the same"
    )
    residual_decay: float = Field(1.0, ge=0, le=1, description="error feedback: what of a residual survives; 0 is off")
    momentum_correction: float = Field(0.0, ge=0, lt=1, description="DGC's momentum over a client's updates; 0 is off")
    max_update_norm: float = Field(0.0, ge=0, description="an update with a larger norm is refused; 0 is off")
    frame_keys: str = Field("", description="folder of the clients' frame keys: only updates sealed by one count")
    clip_update_norm: float = Field(
        0.0, ge=0, description="an update with a larger norm is scaled down to it; 0 is off"
    )
    max_frame_bytes: int = Field(0, ge=0, description="a longer frame is refused; 0 is the library's cap")

    prune_ratio: float = Field(
        0.0, ge=0, lt=1, description="share of the global model's weights that are pruned, smallest first; 0 is off"
    )
    prune_from: int = Field(1, ge=1, description="round after which the first weights are pruned")
    prune_until: int = Field(0, ge=0, description="round after which all of prune-ratio is; 0 is half of the rounds")

    teacher: Literal["none", "global", "ensemble"] = Field("ensemble", description="who teaches the student")
    student_model: str = Field(
        "student-cnn", description="the student's architecture, as `model`, or as student-pyramid(width=0.8)"
    )
    student_prune: float = Field(0.0, ge=0, le=0.9, description="share of the student's channels that are removed")
    student_quantize: Literal["ptq", "qat", "none"] = Field(
        "ptq", description="int8 after training, the better of that and in training, or not; with student-export"
    )
    student_bits: str = Field(
        "",
        description="of the layers that have fewer than 8, as `*=4, 0.weight=8`; the last that fits counts",
    )
    student_export: bool = Field(False, description="write the student as ONNX, verified, with a model card")
    distill_epochs: int = Field(150, ge=1, description="each shows as many images as there are proxy images")
    distill_batch_size: int = Field(64, ge=2, description="proxy images a step")
    distill_learning_rate: float = Field(2e-3, gt=0, description="of the student, falling along a cosine")
    distill_optimizer: Literal["adam", "sgd"] = Field("adam", description="of the student, and of fusion")
    distill_patience: int = Field(0, ge=0, description="epochs without a better student until it stops; 0 is never")
    temperature: float = Field(3.0, gt=0, description="softens teacher and student")
    final_temperature: float = Field(0.0, ge=0, description="in the last epoch; 0 is the same throughout")
    hard_label_weight: float = Field(0.0, ge=0, le=1, description="share of the teacher's own choice in the loss")
    hint_weight: float = Field(0.0, ge=0, description="of the distance to the global model's features; 0 is off")
    teacher_average: Literal["logits", "probabilities"] = Field("logits", description="what an ensemble averages")
    keep_clients: bool = Field(
        False, description="the models of the last round's clients stay in the run's folder: to ask an ensemble later"
    )
    fusion_every: int = Field(
        0, ge=0, description="rounds between two distillations of the clients into the global model (FedDF); 0 is off"
    )
    fusion_epochs: int = Field(20, ge=1, description="as `distill-epochs`, in a fusion")
    fusion_learning_rate: float = Field(1e-3, gt=0, description="of a fusion, falling along a cosine")
    fusion_temperature: float = Field(1.0, gt=0, description="as `temperature`, in a fusion")

    network: str = Field(
        "", description="simulated links: fibre, lte, 3g, lora or a mix `fibre:0.2 lte:0.5 3g:0.3`; empty is off"
    )
    network_spread: float = Field(0.5, ge=0, le=3, description="of clients with one profile: sigma of a log-normal")
    server_bandwidth: float = Field(0.0, ge=0, description="bit/s each way that a round's clients share; 0 is no limit")
    example_seconds: float = Field(0.001, ge=0, description="what a recent phone needs to train one example once")
    dropout: float = Field(0.0, ge=0, lt=1, description="probability that a client is lost in a round")
    availability: str = Field("", description="diurnal, diurnal:HOURS or a trace FILE.csv; empty is always")
    availability_period: float = Field(86400.0, gt=0, description="simulated seconds until availability repeats")

    @field_validator("codec", "downlink")
    @classmethod
    def _codec_parses(cls, text: str) -> str:
        if text != NO_CODEC:
            try:
                parse_codec(text)
            except CodecSpecError as error:
                raise ValueError(str(error)) from None
        return text

    @field_validator("downlink_full")
    @classmethod
    def _sends_whole_models(cls, text: str) -> str:
        if not text:
            return text
        try:
            transform = parse_codec(text).transform
        except CodecSpecError as error:
            raise ValueError(str(error)) from None
        if transform:
            raise ValueError(f"a whole model must decode alike on every machine, to the last bit: no {transform.name}")
        return text

    @field_validator("network")
    @classmethod
    def _network_parses(cls, text: str) -> str:
        try:
            if text:
                parse_mix(text)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("availability")
    @classmethod
    def _availability_parses(cls, text: str) -> str:
        try:
            check_availability(text)
        except UsageError as error:
            raise ValueError(str(error)) from None
        return text

    @field_validator("student_bits")
    @classmethod
    def _bits_parse(cls, text: str) -> str:
        _parse_bits(text)
        return text

    @model_validator(mode="after")
    def _pairs_are_possible(self) -> Self:
        if found := list(contradictions(self)):
            raise ValueError("\n".join(found))
        return self

    @property
    def clients_per_round(self) -> int:
        """Clients that are asked in each round: as Flower's FedAvg counts them."""
        return int(self.num_clients * self.fraction_train)

    def rate_factor(self, server_round: int) -> float:
        """Return what the schedule makes of a learning rate in a round, from 1 in the first one."""
        progress = (server_round - 1) / self.num_server_rounds
        return {"constant": 1.0, "cosine": cosine_factor(progress)}[self.learning_rate_schedule]

    @property
    def pretraining(self) -> str:
        """The objective, where it is one that trains a backbone without labels; else empty."""
        return self.objective if self.objective in PRETRAINING else ""

    @property
    def weight_key(self) -> str:
        """The metric of a client's reply that is its weight."""
        return {"examples": "num-examples", "confident": "trusted-examples"}[self.weight_by]

    @property
    def held_out_sizes(self) -> dict[str, int]:
        """What the server keeps of the training images, as `hold_out` takes it."""
        return {
            "validation_size": self.validation_size,
            "proxy_size": 0 if self.proxy_dataset else self.proxy_size,
            "server_labels": self.server_labels,
        }

    @property
    def layer_bits(self) -> dict[str, int]:
        """Bits of the student's weights by pattern of their name; the last one that fits counts."""
        return _parse_bits(self.student_bits)

    @property
    def last_prune_round(self) -> int:
        """The round after which all of `prune_ratio` is pruned."""
        return self.prune_until or max(self.prune_from, self.num_server_rounds // 2)

    @property
    def real_deadline(self) -> float | None:
        """Seconds of this world until a round goes on without late replies, None for no limit."""
        return self.round_deadline if self.round_deadline and not self.network else None

    @property
    def round_seconds(self) -> float:
        """Real seconds after which a round ends whatever happens."""
        return min(self.round_timeout, self.real_deadline or self.round_timeout)

    @classmethod
    def keys(cls) -> list[str]:
        """Return all keys, kebab-case."""
        return [_kebab(name) for name in cls.model_fields]

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> Self:
        """Build a configuration from kebab-case keys.

        Raises:
            ConfigError: One line for each wrong key or value.
        """
        try:
            return cls.model_validate(dict(mapping))
        except ValidationError as error:
            raise ConfigError("\n".join(_explain(problem, cls.keys()) for problem in error.errors())) from None

    @classmethod
    def from_toml(cls, path: str | Path, overrides: Sequence[str] = ()) -> Self:
        """Read a flat TOML file.

        Args:
            path: The file.
            overrides: ``key=value`` pairs that win over the file; scalars as in TOML, anything else is a string.

        Raises:
            ConfigError: The file can't be read, or a key or value is wrong.
        """
        try:
            mapping = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            return cls.from_mapping(mapping | dict(map(parse_override, overrides)))
        except (OSError, RecursionError, ValueError) as error:  # also of numbers and tables too large to be shown
            raise ConfigError(f"{path}: {error}") from None

    def as_begun(self) -> Self:
        """Return the configuration that the run in `out_dir` began with, what it measured then included.

        Raises:
            ConfigError: The folder holds no run, or one that was configured otherwise.
        """
        path = Path(self.out_dir) / CONFIG_FILE
        if not path.is_file():
            raise ConfigError(f"{self.out_dir} can not be resumed: it is no run's folder, it has no {CONFIG_FILE}")
        asked, begun = self.to_mapping(), type(self).from_toml(path).to_mapping()
        own = {key: asked[key] for key in _RESUME_KEYS}
        other = [
            f"{key} is {asked[key]!r}, but the run in {self.out_dir} began with {value!r}"
            for key, value in begun.items()
            if value != asked[key] and key not in own and not (key in RESOLVED_KEYS and asked[key] == AUTO)
        ]
        if other:
            raise ConfigError("\n".join(other))
        return type(self).from_mapping(begun | own)

    def with_absolute_paths(self) -> Self:
        """Return the same run for a process in another working folder."""
        mapping = self.to_mapping()
        paths = {key: str(Path(str(mapping[key])).absolute()) for key in PATH_KEYS if mapping[key]}
        return type(self).from_mapping(mapping | paths)

    def to_mapping(self) -> dict[str, bool | int | float | str]:
        """Return all keys and values, kebab-case."""
        return self.model_dump(by_alias=True)

    def resolved(self) -> dict[str, str]:
        """Return the values of `RESOLVED_KEYS`."""
        return {key: str(self.to_mapping()[key]) for key in RESOLVED_KEYS}

    def to_toml(self) -> str:
        """Return a TOML text that `from_toml` reads back to the same configuration."""
        return tomli_w.dumps(self.to_mapping())


def _parse_bits(text: str) -> dict[str, int]:
    bits: dict[str, int] = {}
    for pair in filter(None, (part.strip() for part in text.split(","))):
        pattern, _, width = (part.strip() for part in pair.rpartition("="))
        if not pattern or width not in map(str, STUDENT_BITS):
            raise ValueError(f"{pair!r} is not of the form layer=bits with bits of {', '.join(map(str, STUDENT_BITS))}")
        bits.pop(pattern, None)
        bits[pattern] = int(width)
    return bits


def parse_override(pair: str) -> tuple[str, Any]:
    """Return key and value of ``key=value``: a scalar as in TOML, anything else is a string."""
    key, equals, text = pair.partition("=")
    if not equals or not key.strip():
        raise ConfigError(f"{pair!r} is not of the form key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except (RecursionError, ValueError):
        value = None
    is_scalar = isinstance(value, bool | int | float | str)  # not a date, which a run's name may look like
    return key.strip(), value if is_scalar else text.strip()


def _explain(problem: Any, keys: list[str]) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] == "extra_forbidden":
        close = difflib.get_close_matches(key, keys, n=1)
        return f"{key} is not a key" + (f", did you mean {close[0]}?" if close else f"; {_DESCRIBED_IN} has them all")
    message = problem["msg"].removeprefix("Value error, ")
    if not key:
        return str(message)
    return f"{key} is {problem['input']!r}: {message[0].lower()}{message[1:]}"
