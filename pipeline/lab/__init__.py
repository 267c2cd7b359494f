"""The laboratory: data, evaluation, metrics, studies and training. Nothing that runs needs it."""
