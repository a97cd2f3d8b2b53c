"""Checks that the quickstart's run has written everything and that condensation has helped."""

import json
import sys
from pathlib import Path

AHEAD = 0.15  # least lead of the synthetic set over random real images

folder = Path(sys.argv[1])
summary = json.loads((folder / "summary.json").read_text())
for name in ("config.json", "metrics.jsonl", "synthetic.npz", "checkpoints", "images/000100.png"):
  assert (folder / name).exists(), f"{name} is missing"
accuracy = {record["set"]: record["last_mean"] for record in summary["evaluations"]}
lead = accuracy["synthetic"] - accuracy["random"]
assert lead >= AHEAD, f"the synthetic set leads by {lead:.3f} only"
print(f"quickstart: synthetic {accuracy['synthetic']:.3f}, random {accuracy['random']:.3f}")
