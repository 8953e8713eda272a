"""Words of a configuration, and of what server and clients tell each other, that more than one place knows."""

AUTO = "auto"
PRETRAINING = ("simsiam", "rotation")
"""Objectives that train a backbone without labels: the model has no classes then."""
RESOLVED_KEYS = ("precision", "memory-format")
"""What the server measures once where it says ``auto``, and then orders from every client."""
IMAGE_SHAPE_KEY, NUM_CLASSES_KEY, FLIP_OK_KEY = "image-shape", "num-classes", "flip-ok"
"""What the server tells its clients of the data: one with data of its own can not know how many classes there are."""
FROZEN_KEY = "frozen-fingerprint"
"""The server's word on the tensors that both ends have: what is trained on top of others would be of no use."""
PARTICIPANTS_KEY, PERSONAL_ACCURACY_KEY, PERSONAL_EXAMPLES_KEY = (
    "participants",
    "personal-accuracy",
    "personal-examples",
)
"""What clients report: 1, for means in which all have the same say; how good their own models are, and on how much."""
STUDENT_BITS = (8, 4, 2)
"""Widths in which ONNX stores whole numbers."""
