"""What walks about in the world, what each thing may be called, and what never appears."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class WorldConcept:
    """One kind of thing that the world draws.

    Attributes:
        name: The noun phrase that names it in truth and prompts.
        synonyms: Other phrases for the same thing; they never name another concept.
        sprite: Name of its artwork, one of :data:`SPRITES`.
        stature: Height against the tallest concept seen from the same distance, in (0, 1].
    """

    name: str
    synonyms: tuple[str, ...]
    sprite: str
    stature: float


# Name of the artwork in each atlas cell, row by row, with the emoji it was baked from. Sprites
# that no concept uses are kept for scenes with unlabelled look-alikes.
SPRITES: dict[str, int] = {
    "deer": 0x1F98C,
    "pig": 0x1F416,
    "elephant": 0x1F418,
    "cow": 0x1F404,
    "horse": 0x1F40E,
    "cat": 0x1F408,
    "turkey": 0x1F983,
    "turtle": 0x1F422,
    "car": 0x1F697,
    "bus": 0x1F68C,
    "bicycle": 0x1F6B2,
    "person": 0x1F6B6,
    "truck": 0x1F69A,
    "dog": 0x1F415,
    "rabbit": 0x1F407,
    "tractor": 0x1F69C,
}

CONCEPTS: tuple[WorldConcept, ...] = (
    WorldConcept(name="deer", synonyms=("stag", "roe deer"), sprite="deer", stature=0.95),
    WorldConcept(name="pig", synonyms=("hog", "swine"), sprite="pig", stature=0.7),
    WorldConcept(name="elephant", synonyms=("tusker",), sprite="elephant", stature=1.0),
    WorldConcept(name="cow", synonyms=("cattle", "heifer"), sprite="cow", stature=0.8),
    WorldConcept(name="horse", synonyms=("pony", "stallion"), sprite="horse", stature=0.9),
    WorldConcept(name="cat", synonyms=("kitten", "house cat"), sprite="cat", stature=0.65),
    WorldConcept(name="turkey", synonyms=("gobbler",), sprite="turkey", stature=0.65),
    WorldConcept(name="turtle", synonyms=("tortoise",), sprite="turtle", stature=0.55),
    WorldConcept(name="car", synonyms=("automobile", "red car"), sprite="car", stature=0.65),
    WorldConcept(name="bus", synonyms=("coach", "autobus"), sprite="bus", stature=0.8),
    WorldConcept(name="tractor", synonyms=("farm tractor",), sprite="tractor", stature=0.8),
    WorldConcept(name="person", synonyms=("pedestrian", "human"), sprite="person", stature=0.9),
)

CONCEPT_NAMES: tuple[str, ...] = tuple(concept.name for concept in CONCEPTS)

# Nouns for negative prompts: nothing in any scene, scenery included, may be called by them.
ABSENT_PHRASES: tuple[str, ...] = (
    "zebra",
    "giraffe",
    "lion",
    "penguin",
    "kangaroo",
    "snake",
    "shark",
    "octopus",
    "butterfly",
    "owl",
    "monkey",
    "wolf",
    "camel",
    "hedgehog",
    "frog",
    "airplane",
    "helicopter",
    "train",
    "sailboat",
    "skateboard",
    "ladder",
    "umbrella",
    "suitcase",
    "backpack",
    "guitar",
    "piano",
    "laptop",
    "telephone",
    "television",
    "refrigerator",
    "chair",
    "table",
    "sofa",
    "lamp",
    "clock",
    "bottle",
    "teapot",
    "pizza",
    "banana",
    "balloon",
    "fire hydrant",
    "traffic light",
)


def concept_named(name: str) -> WorldConcept:
    """Return the concept called ``name``.

    Raises:
        ValueError: If the world knows no such concept.
    """
    for concept in CONCEPTS:
        if concept.name == name:
            return concept
    raise ValueError(f"unknown world concept {name!r}; known: {', '.join(CONCEPT_NAMES)}")
