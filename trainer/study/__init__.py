"""The ablation study and its report."""
