"""Questions about a shop that only its two lists can answer."""

from __future__ import annotations

import random

PRICES = {
    "anvil": 84, "bucket": 9, "candle": 4, "drum": 61, "easel": 37, "flute": 48, "globe": 29, "hammock": 53,
    "inkwell": 12, "jug": 15, "kite": 18, "ladle": 7, "mirror": 42, "notebook": 6, "oar": 33, "pillow": 21,
}  # fmt: skip
STOCK = {name: 90 - 5 * place for place, name in enumerate(PRICES)}

_QUESTIONS = (
    ("What does a {item} cost?", PRICES),
    ("How many {item}s are left?", STOCK),
    ("What must I pay for one {item}?", PRICES),
    ("How many {item}s could I get today?", STOCK),
)


def generate(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Draw `{"question", "answer"}` rows, no question twice, at most 64; the same for the same seed everywhere."""
    every = [
        {"question": form.format(item=item), "answer": str(found[item])}
        for form, found in _QUESTIONS
        for item in PRICES
    ]
    random.Random(f"shop/{seed}").shuffle(every)
    return every[:count]
