"""What the demo's speakers say: requests to an assistant at home and on journeys, drawn from a small grammar."""

from __future__ import annotations

import random
from collections.abc import Container
from functools import cache

GRAMMAR = """
request    : <home> | <home> | <home> | <travel> | <travel> | <diary> | <diary> | <shopping> | <message> | <music>
             | <status>
home       : <turn> the <room> <device> <switch> | <turn> <switch> the <device> in the <room>
             | set the <room> <dial> to <number> <unit> | make the <room> <degree> <brighter>
             | <please> <shut> the <room> <opening> | paint the <room> <wall> <colour> and <colour>
             | is the <device> in the <room> <state> | change the <room> light to <colour>
travel     : when does the <nth> train to <town> leave | book <count> tickets from <town> to <town>
             | how long is the <journey> from <town> to <town> | is the <clock> to <town> running late
             | i need to be in <town> by <clock> on <day> | which platform does the <town> train leave from
             | show me the <cheapest> <journey> to <town> on <day>
diary      : wake <person> at <clock> on <day> | remind <person> to call <name> at <clock>
             | move the meeting with <name> to <day> at <clock> | cancel my <event> with <name> on <day>
             | what happens on <month> the <nth> | add <event> with <name> on <day> the <nth>
             | put <event> on <month> the <nth> at <clock>
shopping   : add <quantity> of <food> to the shopping list | we need <food> and <food> for <meal>
             | order <quantity> of <food> and <quantity> of <food> | do we have any <food> left for <meal>
             | remove the <food> from the shopping list | cook <food> with <food> for <name> and <name>
message    : call <name> on <digit> <digit> <digit> <digit> <digit> | tell <name> that i am <state> in <town>
             | send <name> the code <digit> <digit> <digit> <digit> | ask <name> to bring <quantity> of <food>
             | read the <nth> message from <name> | my number is <digit> <digit> <digit> <digit> <digit> <digit>
music      : play <genre> music in the <room> | play the <nth> song by <name> again
             | turn the volume <louder> by <number> percent | skip to track <number> of the <genre> album
status     : what is the weather in <town> on <day> | how warm is the <room> | how many <food> did <name> order
             | start a timer for <number> minutes | count <number> steps <direction> and stop
             | go <number> meters <direction> and then turn <direction>
turn       : turn | switch
switch     : on | off
shut       : open | close | lock | shut
please     : please | now | could you
room       : kitchen | bedroom | bathroom | garage | hallway | office | garden | cellar | attic | library | nursery
             | balcony
device     : lights | lamp | heater | fan | oven | radio | television | kettle | speaker | washer | camera | alarm
dial       : heating | volume | timer | thermostat
opening    : door | window | curtains | shutters | gate | blinds
unit       : degrees | percent
degree     : a little | much | slightly
brighter   : brighter | darker | warmer | cooler | louder
wall       : wall | ceiling | floor
colour     : red | green | blue | yellow | white | black | purple | orange | pink | brown | silver
state      : on | off | ready | broken | safe | lost | waiting | busy
nth        : first | second | third | fourth | fifth | sixth | seventh | eighth | ninth | tenth | last | next
journey    : train | bus | ferry | flight | drive | walk
cheapest   : cheapest | fastest | earliest | latest
clock      : <hour> o'clock | <hour> <minutes> | half past <hour> | quarter to <hour> | <hour> <minutes> | noon
hour       : one | two | three | four | five | six | seven | eight | nine | ten | eleven | twelve
minutes    : ten | fifteen | twenty | thirty | forty | fifty | twenty five | fifty five | forty five
digit      : zero | one | two | three | four | five | six | seven | eight | nine
count      : two | three | four | five | six
number     : <tens> <small> | <tens> | <small> | <teen>
tens       : twenty | thirty | forty | fifty | sixty | seventy | eighty | ninety
small      : one | two | three | four | five | six | seven | eight | nine
teen       : ten | eleven | twelve | thirteen | fourteen | fifteen | sixteen | seventeen | eighteen | nineteen
day        : monday | tuesday | wednesday | thursday | friday | saturday | sunday | today | tomorrow
month      : january | february | march | april | may | june | july | august | september | october | november
             | december
event      : lunch | dinner | tennis | chess | football | dentist | piano lessons | swimming | choir
meal       : breakfast | lunch | dinner | supper
quantity   : <count> bags | <count> boxes | a bottle | <count> bottles | <count> pounds | a cup | <count> cups
food       : milk | bread | butter | cheese | coffee | tea | sugar | salt | pepper | rice | beans | apples | bananas
             | lemons | carrots | onions | potatoes | tomatoes | chicken | fish | honey | chocolate | cookies | juice
             | water | pasta | soup
person     : me | us | <name>
name       : anna | peter | maria | david | laura | simon | julia | martin | helen | oliver | sophie | thomas | emma
             | jacob | clara | victor | nina | walter | grace | henry | alice | robert | susan | edward | diana
             | philip | teresa | george | nancy | kevin | linda | marcus | carol | steven | wendy | arthur
town       : boston | london | paris | berlin | madrid | vienna | oslo | dublin | athens | lisbon | geneva | moscow
             | denver | dallas | seattle | chicago | toronto | houston | phoenix | memphis | austin | portland
             | cleveland | richmond | salem | newport | bristol | oxford | cambridge | york
genre      : jazz | rock | classical | country | folk | dance | piano
louder     : up | down
direction  : left | right | forward | back | around
"""


@cache
def rules() -> dict[str, tuple[tuple[str, ...], ...]]:
    """Left-hand side -> its alternatives, each a sequence of words and ``<rule>`` references."""
    joined = GRAMMAR.strip().replace("\n             ", " ")
    read: dict[str, tuple[tuple[str, ...], ...]] = {}
    for line in joined.splitlines():
        name, _, alternatives = line.partition(":")
        read[name.strip()] = tuple(tuple(alternative.split()) for alternative in alternatives.split("|"))
    return read


@cache
def vocabulary() -> tuple[str, ...]:
    """Every word that the grammar can say, in capitals, sorted.

    Example:
        >>> "KITCHEN" in vocabulary(), len(vocabulary()) > 200
        (True, True)
    """
    alternatives = (alternative for choices in rules().values() for alternative in choices)
    return tuple(sorted({word.upper() for alternative in alternatives for word in alternative if word[0] != "<"}))


def sentence(random_source: random.Random) -> str:
    """One request, words in capitals separated by single spaces."""
    return " ".join(_expand("<request>", random_source)).upper()


def _expand(symbol: str, random_source: random.Random) -> list[str]:
    if not symbol.startswith("<"):
        return [symbol]
    alternative = random_source.choice(rules()[symbol[1:-1]])
    return [word for part in alternative for word in _expand(part, random_source)]


def new_sentences(count: int, random_source: random.Random, *, known: Container[str] = ()) -> list[str]:
    """That many different requests, none of them among the known ones."""
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        request = sentence(random_source)
        if request not in known:
            drawn[request] = None
    return list(drawn)
