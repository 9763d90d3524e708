"""Generators of tasks like those of BIG-Bench Hard, in words of our own."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta

Draw = Callable[[random.Random], tuple[str, str]]  # -> (question, answer)

KINDS = {
    "pieces of fruit": "apple pear plum peach cherry fig banana lemon mango apricot".split(),
    "tools": "hammer saw wrench chisel mallet drill screwdriver spanner file clamp".split(),
    "vehicles": "bicycle truck tram van scooter ferry tractor canoe bus glider".split(),
    "birds": "robin owl heron sparrow crane swift falcon wren pelican stork".split(),
    "pieces of clothing": "scarf coat glove sock hat shirt belt vest skirt mitten".split(),
}
NUMBERS = "two three four".split()
WORDS = """
anchor amber basket beacon candle canyon copper dagger dolphin ember engine fabric falcon garden glacier
harbor hollow island ivory jacket jungle kettle kitten ladder lantern marble meadow needle nickel orchard
oyster pebble pillow quartz quiver ribbon river saddle silver temple timber umbrella uncle valley velvet
walnut window yarrow yellow zephyr zigzag
""".split()
PEOPLE = "Mira Jonas Tess Oleg Priya Bruno Hana Caleb".split()
CARDS = "red blue green yellow white black".split()
DIRECTIONS = {"north": (0, 1), "south": (0, -1), "east": (1, 0), "west": (-1, 0)}
OPPOSITE = {"north": "south", "south": "north", "east": "west", "west": "east"}
ERRANDS = (
    ("A library book is lent on {day} for {days} days.", "On which date is it due"),
    ("A parcel is posted on {day} and arrives {days} days later.", "On which date does it arrive"),
    ("A plant is watered on {day} and again {days} days after that.", "On which date is it watered again"),
    ("A course begins on {day}, and its exam is {days} days later.", "On which date is the exam"),
)


def object_counting(rng: random.Random) -> tuple[str, str]:
    """How many things of one kind are on a shelf; on every third shelf there are also things of another kind."""
    asked, other = rng.sample(list(KINDS), 2)
    counted = [(thing, _amount(rng)) for thing in rng.sample(KINDS[asked], rng.randint(3, 6))]
    mixed = rng.random() < 1 / 3
    beside = [(thing, _amount(rng)) for thing in rng.sample(KINDS[other], rng.randint(1, 2))] if mixed else []
    things = counted + beside
    rng.shuffle(things)
    shelf = _listed([_quantity(thing, amount) for thing, amount in things])
    return f"On the shelf there are {shelf}. How many {asked} are on the shelf?", str(sum(n for _, n in counted))


def word_sorting(rng: random.Random) -> tuple[str, str]:
    """Words in alphabetical order."""
    words = rng.sample(WORDS, rng.randint(3, 6))
    return f"Put these words in alphabetical order: {' '.join(words)}", " ".join(sorted(words))


def boolean_expressions(rng: random.Random) -> tuple[str, str]:
    """The value of a Boolean expression."""
    expression, value = _boolean(rng, depth=3)
    return f"What is the value of this expression? {expression}", str(value)


def navigation(rng: random.Random) -> tuple[str, str]:
    """Whether a walk ends where it began; half of them do."""
    walk = [(rng.choice(list(DIRECTIONS)), rng.randint(1, 9)) for _ in range(rng.randint(2, 3))]
    walk += [(OPPOSITE[way], paces) for way, paces in walk]
    rng.shuffle(walk)
    if rng.random() < 0.5:
        spot = rng.randrange(len(walk))
        walk[spot] = (walk[spot][0], walk[spot][1] + rng.randint(1, 3))
    east = sum(DIRECTIONS[way][0] * paces for way, paces in walk)
    north = sum(DIRECTIONS[way][1] * paces for way, paces in walk)
    steps = " ".join(f"Walk {paces} pace{'s' * (paces > 1)} {way}." for way, paces in walk)
    question = f"You stand at a lamp post. {steps} Are you back at the lamp post?\nOptions:\n- Yes\n- No"
    return question, "Yes" if (east, north) == (0, 0) else "No"


def date_arithmetic(rng: random.Random) -> tuple[str, str]:
    """A date some days after another."""
    start = date(2015, 1, 1) + timedelta(days=rng.randrange(3650))
    days = rng.randint(2, 40)
    story, question = rng.choice(ERRANDS)
    told = story.format(day=f"{start.day} {start:%B} {start.year}", days=days)
    return f"{told} {question}? Give it as YYYY-MM-DD.", (start + timedelta(days=days)).isoformat()


def shuffled_objects(rng: random.Random) -> tuple[str, str]:
    """Who holds which card after some swaps."""
    people, cards = rng.sample(PEOPLE, 3), rng.sample(CARDS, 3)
    holds = dict(zip(people, cards, strict=True))
    dealt = _listed([f"{person} holds the {card} card" for person, card in holds.items()])
    swaps = []
    for _ in range(rng.randint(3, 5)):
        one, two = rng.sample(people, 2)
        holds[one], holds[two] = holds[two], holds[one]
        swaps.append(f"{one} and {two} swap cards")
    asked = rng.choice(people)
    options = "\n".join(f"({letter}) {card}" for letter, card in zip("ABC", cards, strict=True))
    question = f"{dealt}. {'. Then '.join(swaps)}. Which card does {asked} hold now?\nOptions:\n{options}"
    return question, f"({'ABC'[cards.index(holds[asked])]})"


TASKS: dict[str, Draw] = {
    draw.__name__: draw
    for draw in (
        boolean_expressions,
        date_arithmetic,
        navigation,
        object_counting,
        shuffled_objects,
        word_sorting,
    )
}


def generate(task: str, count: int, seed: int = 0) -> list[dict[str, str]]:
    """Draw `count` examples of a task, no question twice; the same for the same seed on every machine.

    Args:
        task: One of `TASKS`.
        count: At most some hundreds; every task has far more questions than that.
        seed: Another seed, other examples.

    Returns:
        `{"input": question, "target": answer}` each.
    """
    rng = random.Random(f"{task}/{seed}")
    found: dict[str, str] = {}
    while len(found) < count:
        question, answer = TASKS[task](rng)
        found.setdefault(question, answer)
    return [{"input": question, "target": answer} for question, answer in found.items()]


def plural(thing: str) -> str:
    """The plural of one of the things in `KINDS`."""
    if thing.endswith("y"):
        return thing[:-1] + "ies"
    if thing.endswith(("s", "ch", "sh")):
        return thing + "es"
    return thing + ("es" if thing == "mango" else "s")


def _amount(rng: random.Random) -> int:
    return 1 if rng.random() < 0.6 else rng.randint(2, 4)


def _quantity(thing: str, amount: int) -> str:
    if amount == 1:
        return f"{'an' if thing[0] in 'aeiou' else 'a'} {thing}"
    return f"{NUMBERS[amount - 2]} {plural(thing)}"


def _listed(parts: list[str]) -> str:
    return f"{', '.join(parts[:-1])} and {parts[-1]}"


def _boolean(rng: random.Random, depth: int) -> tuple[str, bool]:
    if depth == 0:
        value = rng.random() < 0.5
        return str(value), value
    left, one = _boolean(rng, depth - 1)
    right, two = _boolean(rng, rng.randrange(depth))
    word = rng.choice(("and", "or"))
    text, value = f"{left} {word} {right}", (one and two) if word == "and" else (one or two)
    if rng.random() < 0.4:
        return f"not ({text})", not value
    return f"({text})", value
