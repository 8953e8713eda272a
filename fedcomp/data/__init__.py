"""Images: loading, a client's own ones, holding out, partitioning over clients, hiding labels."""

from fedcomp.data.dataset import UNLABELLED, ImageDataset
from fedcomp.data.local import check_fits, load_local
from fedcomp.data.partition import label_divergence, partition_labels
from fedcomp.data.sources import load_dataset
from fedcomp.data.splits import ClientData, HeldOut, hide_labels, hold_out, hold_out_own, label_all, split_labelled

__all__ = [
    "UNLABELLED",
    "ClientData",
    "HeldOut",
    "ImageDataset",
    "check_fits",
    "hide_labels",
    "hold_out",
    "hold_out_own",
    "label_all",
    "label_divergence",
    "load_dataset",
    "load_local",
    "partition_labels",
    "split_labelled",
]
