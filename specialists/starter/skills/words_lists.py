"""Built-in word lists, used alone when the data folder is absent and added to it when it is there."""

from __future__ import annotations


def _listed(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NOUNS: tuple[str, ...] = _listed(
    """apple arm army artist aunt baby bag ball banana bank basket bath beach bean bear bed bee bell belt
    bench berry bird board boat body bone book boot bottle bowl box boy branch brick bridge brother brush
    bucket bus bush butterfly button cake camera camp candle car card carpet carrot cart castle cat cave
    chair cherry chicken church circle city class clock cloud clown coach coat coin colour computer cook
    country cow crayon crow crown cup curtain daisy dancer daughter day desk diary dish doctor dog doll
    donkey door dragon dress drum duck eagle ear egg elephant engine eye face fairy family farm farmer
    feather fence field finger fire flag flower fly forest fork fox friend frog garden gate ghost giant
    gift girl glass glove goat grape guitar hammer hand hat heart hen hill horse hospital hotel house idea
    island jacket jar jewel judge key king kitchen kite kitten lady lake lamp language lawyer leg lemon
    letter library lion lorry machine map market mask match meal melon message mirror monkey moon mountain
    mouth museum nail neck needle nest net night nose nurse ocean office onion orange owl page painter
    palace parent park party path peach pear pen pencil penny pig pilot pirate plane planet plant plate
    pocket poem pond pony prince prize puppy queen question rabbit radio rain river road robot rocket roof
    room rope rose sailor school screen sea secret shed ship shirt shoe shop shoulder singer sister skirt
    sky snake sock soldier son song spider spoon spy square star station stone storm story street student
    sun table tail taxi teacher temple tent thumb ticket tiger toe tool torch towel tower town toy tractor
    train tray tree triangle truck tunnel turtle uncle umbrella valley village violin voice wall watch wave
    whale wheel window wing witch wizard worm zebra"""
)

IRREGULAR_PLURALS: dict[str, str] = dict(
    pair.split(":")
    for pair in _listed(
        """mouse:mice man:men woman:women child:children tooth:teeth foot:feet goose:geese person:people
        ox:oxen sheep:sheep deer:deer fish:fish leaf:leaves knife:knives wife:wives life:lives wolf:wolves
        shelf:shelves half:halves loaf:loaves thief:thieves calf:calves scarf:scarves elf:elves
        cactus:cacti potato:potatoes tomato:tomatoes hero:heroes echo:echoes postman:postmen
        policeman:policemen snowman:snowmen louse:lice"""
    )
)

REGULAR_VERBS: tuple[str, ...] = _listed(
    """accept add agree allow answer appear arrive ask bake bark beg believe boil borrow bounce breathe brush
    call care carry change chase cheer clap clean climb close collect cook copy count cover cross cry dance
    decide deliver dream drop dry earn empty end enjoy enter escape explain fail fill finish fix float
    follow fry gather greet guess hand happen hate help hope hop hug hunt hurry imagine invite join jog
    jump kick kiss knock land laugh learn lift like listen live lock look love marry melt mix move nod need
    notice obey offer open order pack paint pass pat pick plan plant play pour practice pray promise pull
    punish push rain reach receive refuse remember repair repeat reply rest return rob roll rub rush sail
    save scream search serve share shop shout skip slip smell smile snow sound spell spill start stay step
    stop study suggest talk taste tie touch train travel trip try turn type use visit wait walk want warn
    wash watch wave whisper wish wonder work worry yawn yell"""
)

# verbs of one stressed closing syllable double their last consonant
DOUBLED: frozenset[str] = frozenset(
    _listed("beg clap drop hop hug jog nod pat plan rob rub shop skip slip step stop trip prefer chat grab")
)

IRREGULAR_PASTS: dict[str, str] = dict(
    pair.split(":")
    for pair in _listed(
        """be:was become:became begin:began bend:bent bite:bit blow:blew break:broke bring:brought
        build:built buy:bought catch:caught choose:chose come:came cost:cost cut:cut dig:dug do:did
        draw:drew drink:drank drive:drove eat:ate fall:fell feed:fed feel:felt fight:fought find:found
        fly:flew forget:forgot forgive:forgave freeze:froze get:got give:gave go:went grow:grew have:had
        hear:heard hide:hid hit:hit hold:held hurt:hurt keep:kept know:knew lead:led leave:left lend:lent
        let:let lose:lost make:made mean:meant meet:met pay:paid put:put read:read ride:rode ring:rang
        rise:rose run:ran say:said see:saw sell:sold send:sent shake:shook shine:shone shoot:shot
        shut:shut sing:sang sink:sank sit:sat sleep:slept speak:spoke spend:spent stand:stood steal:stole
        swim:swam take:took teach:taught tear:tore tell:told think:thought throw:threw
        understand:understood wake:woke wear:wore win:won write:wrote"""
    )
)

# each pair holds in both directions
ANTONYMS: tuple[tuple[str, str], ...] = tuple(
    (pair.split(":")[0], pair.split(":")[1])
    for pair in _listed(
        """hot:cold big:small tall:short fast:slow old:young happy:sad good:bad light:dark up:down left:right
        in:out open:closed full:empty rich:poor strong:weak hard:soft wet:dry clean:dirty loud:quiet
        early:late high:low long:short thick:thin wide:narrow deep:shallow near:far heavy:light
        easy:difficult cheap:expensive safe:dangerous true:false alive:dead awake:asleep brave:cowardly
        gentle:harsh cruel:kind polite:rude smooth:rough sharp:blunt sweet:bitter beautiful:ugly
        clever:stupid lucky:unlucky able:unable fair:unfair possible:impossible patient:impatient
        visible:invisible correct:incorrect honest:dishonest legal:illegal regular:irregular
        formal:informal known:unknown usual:unusual healthy:ill present:absent same:different
        public:private modern:ancient simple:complex male:female single:married raw:cooked guilty:innocent
        generous:selfish lazy:active proud:humble calm:nervous tight:loose bright:dim straight:curved
        first:last inside:outside above:below before:after always:never more:less many:few all:none
        everything:nothing everybody:nobody often:rarely over:under front:back top:bottom north:south
        east:west day:night summer:winter morning:evening sunrise:sunset land:sea heaven:hell peace:war
        friend:enemy love:hate life:death success:failure victory:defeat question:answer start:finish
        begin:end buy:sell give:take come:go push:pull win:lose remember:forget laugh:cry rise:fall
        arrive:depart enter:exit accept:refuse agree:disagree appear:disappear attack:defend build:destroy
        borrow:lend catch:throw float:sink gain:lose hide:show increase:decrease allow:forbid lock:unlock
        tie:untie wake:sleep work:rest save:spend succeed:fail stand:sit speak:listen praise:blame
        reward:punish teach:learn connect:disconnect freeze:melt warm:cool lead:follow live:die
        raise:lower send:receive husband:wife king:queen man:woman boy:girl father:mother son:daughter
        brother:sister uncle:aunt giant:dwarf beginning:ending profit:loss strength:weakness truth:lie
        joy:sorrow hope:despair courage:fear wisdom:foolishness noise:silence ceiling:floor
        maximum:minimum plus:minus positive:negative yes:no future:past majority:minority import:export
        singular:plural tame:wild fresh:stale ripe:unripe solid:liquid interesting:boring useful:useless
        careful:careless hopeful:hopeless friendly:unfriendly comfortable:uncomfortable"""
    )
)

SYNONYMS: dict[str, str] = dict(
    pair.split(":")
    for pair in _listed(
        """big:large small:little happy:glad sad:unhappy fast:quick begin:start end:finish smart:clever
        angry:mad pretty:beautiful tired:sleepy rich:wealthy scared:afraid hard:difficult easy:simple
        ill:sick shut:close jump:leap talk:speak shout:yell gift:present road:street home:house rock:stone
        boat:ship child:kid friend:pal woman:lady money:cash job:work trip:journey error:mistake
        correct:right wrong:incorrect silent:quiet strange:odd brave:bold calm:peaceful cold:chilly
        hot:warm funny:amusing kind:nice lucky:fortunate famous:well-known huge:enormous tiny:minute
        choose:pick help:assist answer:reply ask:inquire buy:purchase build:construct cry:weep fix:repair
        get:receive give:donate hate:dislike hide:conceal keep:hold laugh:giggle look:see make:create
        need:require near:close often:frequently old:ancient quickly:rapidly rest:relax run:sprint
        say:tell story:tale strong:powerful sure:certain think:believe throw:toss true:real try:attempt
        under:below usual:common wet:damp whole:entire wish:want autumn:fall bunny:rabbit car:automobile
        couch:sofa doctor:physician forest:woods garbage:trash infant:baby ocean:sea path:trail shop:store
        taxi:cab"""
    )
)

ADJECTIVES: tuple[str, ...] = _listed(
    """angry brave bright broad calm cheap clean clear clever close cold cool crazy dark deep dirty dry dull
    early easy fast fat fine firm flat fresh friendly full funny gentle great green happy hard healthy
    heavy high hot hungry kind large late lazy light long loud low lucky mad messy narrow neat new nice
    noisy old pale plain polite poor pretty proud quick quiet red rich ripe rough rude sad safe sharp shiny
    short shy silly simple slim slow small smart smooth soft sour steep strange strong sunny sweet tall
    thick thin tight tiny tough ugly warm weak wealthy wet white wide wild wise witty young"""
)

LONG_ADJECTIVES: tuple[str, ...] = _listed(
    """beautiful careful colourful comfortable dangerous delicious difficult exciting expensive famous
    generous helpful honest important intelligent interesting modern nervous patient peaceful pleasant
    popular powerful serious special terrible useful valuable wonderful"""
)

DOUBLED_ADJECTIVES: frozenset[str] = frozenset(_listed("big fat hot mad red sad slim thin wet fit"))

IRREGULAR_DEGREES: dict[str, tuple[str, str]] = {
    "good": ("better", "best"),
    "bad": ("worse", "worst"),
    "far": ("farther", "farthest"),
    "little": ("less", "least"),
    "many": ("more", "most"),
}

SEQUENCES: tuple[tuple[str, ...], ...] = (
    _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday Monday"),
    (
        *_listed("January February March April May June July August September October November December"),
        "January",
    ),
    _listed("spring summer autumn winter spring"),
    _listed(
        """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen
        sixteen seventeen eighteen nineteen twenty"""
    ),
    _listed("first second third fourth fifth sixth seventh eighth ninth tenth"),
    tuple("abcdefghijklmnopqrstuvwxyz"),
)


def plural_of(noun: str) -> str:
    """Return the plural of an English noun: the listed irregular one, or by the spelling rule."""
    if noun in IRREGULAR_PLURALS:
        return IRREGULAR_PLURALS[noun]
    if noun.endswith(("s", "x", "z", "ch", "sh")):
        return f"{noun}es"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return f"{noun[:-1]}ies"
    return f"{noun}s"


def past_of(verb: str) -> str:
    """Return the simple past of an English verb: the irregular one when it is listed, the spelling rule
    otherwise."""
    if verb in IRREGULAR_PASTS:
        return IRREGULAR_PASTS[verb]
    if verb.endswith("e"):
        return f"{verb}d"
    if verb.endswith("y") and verb[-2:-1] not in "aeiou":
        return f"{verb[:-1]}ied"
    return f"{verb}{verb[-1]}ed" if verb in DOUBLED else f"{verb}ed"


def degree_of(adjective: str, ending: str) -> str:
    """Return the comparative (``ending="er"``) or superlative (``"est"``) of an adjective."""
    if adjective in IRREGULAR_DEGREES:
        return IRREGULAR_DEGREES[adjective][ending == "est"]
    if adjective in LONG_ADJECTIVES:
        return f"{'more' if ending == 'er' else 'most'} {adjective}"
    if adjective.endswith("e"):
        return f"{adjective}{ending[1:]}"
    if adjective.endswith("y") and adjective[-2] not in "aeiou" and adjective != "shy":
        return f"{adjective[:-1]}i{ending}"
    doubled = adjective[-1] if adjective in DOUBLED_ADJECTIVES else ""
    return f"{adjective}{doubled}{ending}"
