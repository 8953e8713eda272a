"""Values of a configuration that are fine alone and impossible together, each with what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fedcomp.codecs import NO_CODEC, parse_codec
from fedcomp.config.vocabulary import AUTO

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fedcomp.config.run_config import RunConfig


def contradictions(config: RunConfig) -> Iterator[str]:
    """Yield a message for each contradiction between keys of a configuration whose values are valid."""
    impossible = {
        f"server-momentum is for strategy fedavgm only, but strategy is {config.strategy}: set one of them": (
            config.server_momentum and config.strategy != "fedavgm"
        ),
        f"server-learning-rate has no effect on strategy {config.strategy}: leave it at 1, or set another one": (
            config.server_learning_rate != 1 and config.strategy in ("fedavg", "feddyn")
        ),
        "strategy feddyn has a pull towards the global model of its own: set proximal-mu to 0": (
            config.proximal_mu and config.strategy == "feddyn"
        ),
        f"objective {config.objective} trains no classifier: no teacher, fusion, server training or local-layers": (
            config.pretraining
            and (
                config.teacher != "none"
                or bool(config.fusion_every or config.fine_tune_epochs or config.warm_up_epochs or config.local_layers)
            )
        ),
        "objective simsiam is measured by a linear probe at the server: set server-labels": (
            config.objective == "simsiam" and not config.server_labels
        ),
        "a linear probe needs images of two classes: set server-labels to 2 or more": (
            config.pretraining and config.server_labels == 1
        ),
        "with local-layers the server has no whole model to train: set fine-tune-epochs to 0": (
            config.local_layers and config.fine_tune_epochs
        ),
        "static-batch-norm measures all layers anew, frozen ones too: set one of them": (
            config.static_batch_norm and config.frozen
        ),
        "strategy feddyn gives all clients the same weight: set weight-by to examples": (
            config.strategy == "feddyn" and config.weight_by != "examples"
        ),
        "with local-layers the server has no whole model to teach: set teacher to none, and fusion-every to 0": (
            config.local_layers and (config.teacher != "none" or config.fusion_every > 0)
        ),
        "keep-clients keeps whole classifiers to teach: not with local-layers or objectives that pretrain": (
            config.keep_clients and bool(config.local_layers or config.pretraining)
        ),
        f"objective {config.objective} needs unlabelled images, but label-fraction is 1: set it to supervised": (
            config.objective != "supervised"
            and not config.pretraining
            and config.label_fraction == 1
            and config.labels_at == "clients"
        ),
        "objective supervised needs labels at the clients, but labels-at is server: set another objective": (
            config.objective == "supervised" and config.labels_at == "server"
        ),
        "labels-at server needs server-labels and fine-tune-epochs above 0": (
            config.labels_at == "server"
            and not config.pretraining
            and not (config.server_labels and config.fine_tune_epochs)
        ),
        "server-labels and fine-tune-epochs need each other: set both, or leave both at 0": (
            not config.pretraining and bool(config.server_labels) != bool(config.fine_tune_epochs)
        ),
        "warm-up-epochs needs server-labels to train on": config.warm_up_epochs and not config.server_labels,
        f"objective {config.objective} guesses nothing: no pseudo-labels, thresholds, mixtures, fairness, weight-by": (
            (config.objective == "supervised" or bool(config.pretraining))
            and (
                {config.pseudo_labels, config.threshold, config.learned_view} != {AUTO}
                or config.pseudo_mixing != "none"
                or bool(config.mix_weight or config.fairness_weight)
                or config.weight_by != "examples"
            )
        ),
        "evaluate-on validation needs validation-size above 0": (
            config.evaluate_on == "validation" and not config.validation_size
        ),
        "static-batch-norm needs images at the server to measure on: set proxy-size or server-labels": (
            config.static_batch_norm and config.held_out_sizes["proxy_size"] < 2 and config.server_labels < 2
        ),
        "a teacher needs proxy-size and validation-size above 0, or set teacher to none": (
            config.teacher != "none" and not (config.proxy_size and config.validation_size)
        ),
        "student-bits are of weights that are quantized: set student-quantize to ptq or qat, or no student-bits": (
            bool(config.layer_bits) and config.student_quantize == "none"
        ),
        "fusion-every needs proxy-size and validation-size above 0, or set it to 0": (
            config.fusion_every and not (config.proxy_size and config.validation_size)
        ),
        f"fraction-train {config.fraction_train} of num-clients {config.num_clients} is not one client": (
            config.clients_per_round < 1
        ),
        "resume needs out-dir: which run?": config.resume and not config.out_dir,
        "uplink-budget-bytes and target-ratio say the same: set one of them": (
            config.uplink_budget_bytes and config.target_ratio
        ),
        "downlink-budget-bytes and downlink-target-ratio say the same: set one of them": (
            config.downlink_budget_bytes and config.downlink_target_ratio
        ),
        f"codec {config.codec} can't keep to a budget: it has neither a sparsifier nor deadzone": (
            (config.uplink_budget_bytes or config.target_ratio) and not _is_scalable(config.codec)
        ),
        f"downlink {config.downlink} can't keep to a budget: it has neither a sparsifier nor deadzone": (
            (config.downlink_budget_bytes or config.downlink_target_ratio) and not _is_scalable(config.downlink)
        ),
        f"min-replies is {config.min_replies}, but a round has {config.clients_per_round} clients": (
            config.min_replies > config.clients_per_round
        ),
        f"clip-update-norm {config.clip_update_norm} is nothing below max-update-norm {config.max_update_norm}": (
            config.max_update_norm and config.clip_update_norm >= config.max_update_norm
        ),
        "frame-keys seal frames, but codec none sends plain arrays: set codec, such as lossless": (
            config.frame_keys and config.codec == NO_CODEC
        ),
        f"prune-ratio needs clients that see which weights are zero: downlink none, not {config.downlink}": (
            config.prune_ratio and config.downlink != NO_CODEC
        ),
        f"prune-until {config.last_prune_round} is before prune-from {config.prune_from}": (
            config.prune_ratio and config.last_prune_round < config.prune_from
        ),
        "server-bandwidth, dropout and availability are of a simulated network: set network": (
            not config.network and bool(config.server_bandwidth or config.dropout or config.availability)
        ),
        "network is simulated, and real clients have links of their own: leave it empty, which makes deadlines real": (
            config.deployed and bool(config.network)
        ),
    }
    for message, is_so in impossible.items():
        if is_so:
            yield message


def _is_scalable(codec: str) -> bool:
    return codec != NO_CODEC and parse_codec(codec).is_scalable
