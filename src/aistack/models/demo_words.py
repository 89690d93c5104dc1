"""The vocabulary of the demo model: which kinds of word it knows, and which kind may follow which."""

END = "end"  # the kind of the token that ends an answer
OTHER = "other"  # the kind of everything that is no word of ours


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# Kind of word: the words. A word stands in one kind only.
# None starts with a vowel where "a" may come before it.
WORDS: dict[str, tuple[str, ...]] = {
    "first": _words("The A Every One This Some Our My Your Another"),
    "opening": _words("The A Every One This Some Our My Your Another"),
    "article": _words("the a every this some our my your another"),
    "clause": _words("no each his her their"),
    "character": _words(
        "quiet patient gentle curious careful happy sleepy clever brave friendly shy proud calm lucky "
        "hungry busy lonely cheerful polite modest generous wise young stubborn thoughtful"
    ),
    "adjective": _words(
        "small bright tall green golden silver warm cool tiny round soft distant simple narrow hidden "
        "familiar strange blue red white dark light clear fresh gray wooden dusty sunny frozen"
    ),
    "actor": _words(
        "gardener baker cat dog teacher river wind child farmer sailor painter librarian doctor neighbor "
        "musician fox rabbit horse bird cloud traveler scientist poet cook grandmother "
        "student captain clock machine robot turtle bear mouse bee whale dancer singer tailor carpenter "
        "shepherd wizard dragon giant mayor stranger visitor pilot nurse"
    ),
    "verb": _words(
        "carries paints finds watches opens follows remembers builds sings repairs counts borrows draws "
        "collects hides brings chooses describes discovers explains forgets gathers holds imagines keeps "
        "learns likes loves measures needs observes offers polishes prefers protects reads returns shares "
        "studies visits washes writes cleans cooks feeds greets invites joins plants pushes pulls"
    ),
    "adverb": _words(
        "quietly slowly gladly often never always carefully sometimes gently rarely happily suddenly simply "
        "soon together again tonight today tomorrow everywhere"
    ),
    "thing": _words(
        "lantern garden bridge letter window basket book chair door flower guitar hammer "
        "jacket kettle ladder map mirror mountain needle pencil pillow puzzle question radio "
        "ribbon road roof room sandwich shoe song spoon star stone story table telescope ticket tree "
        "valley village violin wagon wall wheel whistle winter yard bicycle blanket bottle bread "
        "candle castle cup dream field forest harbor house key lake lamp meadow moon path picture"
    ),
    "preposition": _words("under behind beside near above across through with"),
    "conjunction": _words("and but while because until"),
    "stop": (".",),
}
UNSPACED = ("first", "stop")  # kinds of word that have no space before them

# After a word of the first kind, a word of each other kind with this probability; each row sums to one.
# An answer ends after a sentence with probability 0.22, so it has four sentences or so, some forty words.
# The likeliest word after "." is the end, so that it comes at temperature 0 too; and nothing that is to be
# heard is so unlikely that the usual sampling (at least 5 % of the likeliest) leaves it out.
AFTER: dict[str, dict[str, float]] = {
    OTHER: {"first": 1.0},
    END: {"first": 1.0},
    "first": {"actor": 0.55, "character": 0.45},
    "opening": {"actor": 0.55, "character": 0.45},
    "clause": {"actor": 0.55, "character": 0.45},
    "article": {"thing": 0.6, "adjective": 0.4},
    "character": {"actor": 1.0},
    "adjective": {"thing": 1.0},
    "actor": {"verb": 0.8, "adverb": 0.2},
    "adverb": {"verb": 1.0},
    "verb": {"article": 1.0},
    "thing": {"stop": 0.5, "preposition": 0.3, "conjunction": 0.2},
    "preposition": {"article": 1.0},
    "conjunction": {"clause": 1.0},
    "stop": {END: 0.22, "opening": 0.78},
}
