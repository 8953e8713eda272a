"""The names in a run's folder: what writes it and what reads it agree on them here."""

CONFIG_FILE = "config.toml"
"""What was asked, and what was measured before the first round. With it a run has begun."""

METRICS_FILE = "metrics.jsonl"
"""A row a round."""

SUMMARY_FILE = "summary.json"
"""What came out. With it a run is finished."""

MODEL_FILE = "model.safetensors"
"""The final global model."""

EVENTS_FOLDER = "events"
"""The rows once more, for TensorBoard."""

CHECKPOINT_FOLDER = "checkpoint"
"""What a run goes on from; a finished one has none."""

CLIENTS_FOLDER = "clients"
"""The models of the last round's clients, where `keep-clients` keeps them."""

STUDENT_FOLDER = "student"
"""What was distilled."""

CARD_FILE, README_FILE = "card.json", "README.md"
"""In the student's folder: its model card, for machines and for people."""

BASELINE_FOLDER = "baseline"
"""The folder of the same run as float32."""
