"""Does a concept fit the model in use? It does when every Linear it adapts is there in the same size.

A model's siblings (image-to-video, control, fine-tunes) have the Linears of the text-to-video model: a concept of one
works on all of them, only less alike, which the artist is told.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..concepts.concept import Concept
from ..errors import WrongBaseError
from .base import Backbone


def misfit(concept: Concept, backbone: Backbone) -> str | None:
    """What keeps a concept from acting on this model, as expected and found; None when it fits.

    An outline has no adapters: its tokens alone are compared.
    """
    layers, _, width = concept.tokens.shape
    if layers != backbone.layers:
        return f"it has tokens for {layers} layers, this model {backbone.layers}"
    if width != backbone.text_width:
        return f"its tokens are {width} wide, this model's text is {backbone.text_width}"
    sites = {site.id: site for site in backbone.sites}
    for name, adapter in concept.adapters.items():
        if name not in sites:
            return f"it adapts {name}, which this model does not have"
        wanted = (sites[name].in_features, sites[name].out_features)
        found = (adapter.a.shape[1], adapter.b.shape[0])
        if found != wanted:
            return f"it adapts {name} from {found[0]} to {found[1]} numbers, this model has {wanted[0]} to {wanted[1]}"
    return None


def check_fits_base(concepts: Sequence[Concept], backbone: Backbone) -> None:
    """Raise WrongBaseError for the first concept that cannot act on this model."""
    for concept in concepts:
        why = misfit(concept, backbone)
        if why is not None:
            raise WrongBaseError(
                f"<{concept.name}> was learned on another base model ({concept.base.architecture}) than the one "
                f"connected ({backbone.fingerprint.architecture}), and does not fit it: {why}. Load the model it was "
                "learned on or a sibling of the same size, switch the concept off in Concept Library, or learn or "
                "import it again on this model."
            )


def sibling_notes(concepts: Sequence[Concept], backbone: Backbone) -> list[str]:
    """A line for every concept that was learned on another model than this one: it fits, with less likeness."""
    return [
        f"Note: <{concept.name}> was learned on another model of this size ({concept.base.architecture}; connected is "
        f"{backbone.fingerprint.architecture}, or another training of it). It fits, but the likeness may be weaker; "
        "learn or import it again on this model if it is."
        for concept in concepts
        if not concept.base.matches(backbone.fingerprint)
    ]
