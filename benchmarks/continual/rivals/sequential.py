"""Sequential finetuning: one LoRA (Hu et al. 2021), trained on task after task, and nothing against forgetting."""

from __future__ import annotations

from training import OneLora

SEARCH = ()
"""It has no setting of its own."""


class Sequential(OneLora):
    """theta_u = argmin L_u, started from theta_{u-1}."""
