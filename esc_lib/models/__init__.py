"""Networks: layers only, no training."""
