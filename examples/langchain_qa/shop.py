"""Questions about a shop's prices: what only its price list knows, and a sum."""

from __future__ import annotations

import random

PRICES = {
    "anvil": 84, "bucket": 9, "candle": 4, "drum": 61, "easel": 37, "flute": 48, "globe": 29, "hammock": 53,
    "inkwell": 12, "jug": 15, "kite": 18, "ladle": 7, "mirror": 42, "notebook": 6, "oar": 33, "pillow": 21,
}  # fmt: skip


def generate(count: int, seed: int = 0) -> list[dict[str, str]]:
    """Draw `{"question", "answer"}` rows, no question twice; the same for the same seed on every machine."""
    rng = random.Random(f"shop/{seed}")
    found: dict[str, str] = {}
    while len(found) < count:
        one, other = rng.sample(sorted(PRICES), 2)
        many, more = rng.randint(2, 5), rng.randint(2, 5)
        question = f"How much do {many} {one}s and {more} {other}s cost together?"
        found.setdefault(question, str(many * PRICES[one] + more * PRICES[other]))
    return [{"question": question, "answer": answer} for question, answer in found.items()]
