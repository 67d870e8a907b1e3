"""How weights are made and judged: pretraining, the head, baselines."""
