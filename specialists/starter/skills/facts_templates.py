"""Surface templates of the fact questions: shared frames around a noun phrase, and one relation's own
templates.

``{x}`` is a noun phrase such as "the capital of France", ``{s}`` the subject. Order matters: every fifth
template of a list is held out for test, every fourth for calibration.
"""

from __future__ import annotations

FRAMES = """What is {x}?
What's {x}?
Tell me {x}.
Can you tell me {x}?
Please give me {x}.
Name {x}.
{x}?
I need to know {x}.
Do you happen to know {x}?
Quick question: what is {x}?
Give me {x}
what is {x}
Please tell me {x}.
hey, what's {x}
I forgot {x}, remind me please.
Do you know {x}?
{x} please
State {x}.
I would like to know {x}.
Let's see if you know this: what is {x}?
I'm looking for {x}.
what's {x}
Answer this: what is {x}?
Could you look up {x}?
My friend asked me {x}. What should I say?""".splitlines()

PHRASES: dict[str, tuple[str, ...]] = {
    "capital": ("the capital of {s}", "the capital city of {s}"),
    "language": ("the language of {s}", "the main language spoken in {s}"),
    "currency": ("the currency of {s}", "the money used in {s}"),
    "largest-city": ("the largest city of {s}", "the biggest city in {s}"),
    "city-country": ("the country of the city {s}", "the country where the city {s} is"),
    "continent": ("the continent of {s}", "the continent where {s} lies"),
    "landmark-country": ("the country where {s} is", "the country of {s}"),
    "food-country": ("the home country of {s}", "the country {s} comes from"),
    "state-capital": ("the state capital of {s}", "the capital city of the state of {s}"),
    "occupation": ("the occupation of {s}", "{s}'s job"),
    "sport": ("the sport of {s}", "the sport {s} played professionally"),
    "instrument": ("the instrument of {s}", "the instrument {s} plays"),
    "native-language": ("the native language of {s}", "the mother tongue of {s}"),
    "singer-band": ("the band of {s}", "the band {s} sang for"),
    "hero-name": ("the real name of {s}", "{s}'s secret identity"),
    "maker": ("the company behind {s}", "the maker of {s}"),
    "company-city": ("the headquarters city of {s}", "the home city of {s}"),
    "constellation": ("the constellation of the star {s}", "the constellation that holds {s}"),
    "inside-colour": ("the inside color of {s}", "the color of the flesh of {s}"),
    "outside-colour": ("the outside color of {s}", "the color of the skin of {s}"),
    "superclass": ("the category of {s}", "the class of things that {s} belongs to"),
    "phase": ("the phase of matter of {s}", "the normal state of {s}"),
    "tool": ("the tool for {s}", "the thing people use for {s}"),
    "worker": ("the profession of {s}", "the name of the job of {s}"),
    "work-place": ("the workplace of a {s}", "the usual place of work of a {s}"),
    "president-birth": ("the birth year of {s}", "the year of birth of {s}"),
    "president-election": ("the election year of {s}", "the year of the election of {s}"),
}

_OWN = {
    "capital": """Which city is the capital of {s}?
{s} capital?
capital {s}
Which city does the government of {s} sit in?
What city is {s}'s capital?
Which capital city belongs to {s}?
the capital of {s} is
What is the name of the capital of {s}?
Where is the seat of government in {s}?
For {s}, the capital is which city?""",
    "language": """Which language is spoken in {s}?
What do people speak in {s}?
What language do they speak in {s}?
Which language would I hear in {s}?
What is the official language in {s}?
language of {s}
What tongue do the people of {s} speak?
In {s}, which language do most people use?
Which language should I learn before I move to {s}?
I'm going to {s}. What language do people speak there?""",
    "currency": """Which currency is used in {s}?
What money do people use in {s}?
What currency does {s} use?
currency {s}
Which money should I take to {s}?
How do people pay in {s}?
What is the official currency in {s}?
In {s}, what is the money called?
What kind of cash do I need in {s}?
Which currency do shops accept in {s}?""",
    "largest-city": """Which city is the largest in {s}?
biggest city {s}
What city in {s} has the most people?
What is the biggest city of {s}?
Which is the most populous city in {s}?
Which city has the largest population in {s}?
largest city in {s}
Where do most city dwellers live in {s}?
What is {s}'s biggest city?
Which town is the greatest by population in {s}?""",
    "city-country": """In which country is {s}?
Which country is {s} in?
Where is {s}?
What country does {s} belong to?
{s} is a city in which country?
where is the city of {s}
{s} is in what country?
The city {s} lies in which country?
I'm flying to {s}. Which country is that?
In what country can I find the city of {s}?""",
    "continent": """Which continent is {s} in?
On which continent is {s}?
What continent does {s} belong to?
{s} is on which continent?
{s} continent?
{s} lies on which continent?
Where in the world is {s}, which continent?
Is {s} in Europe, Asia, Africa or elsewhere?
Which continent would I travel to for {s}?
What part of the world is {s} in?""",
    "landmark-country": """In which country is {s}?
Which country is {s} in?
Where is {s}?
What country would I visit to see {s}?
{s} is located in which country?
where is {s} located
Which country is home to {s}?
I want to see {s}. Which country do I fly to?
In what country can you find {s}?
{s}, which country is that?""",
    "food-country": """Which country does {s} come from?
Where does {s} come from?
What country is {s} from?
{s} is a dish from which country?
Which country invented {s}?
In which country did {s} originate?
origin of {s}
Where was {s} first made?
{s} belongs to the cuisine of which country?
Which nation gave us {s}?""",
    "state-capital": """Which city is the capital of the state of {s}?
{s} state capital?
What city is the capital of {s} in the US?
In the state of {s}, which city is the capital?
Which city does the governor of {s} work in?
US state capital: {s}
Where does the state government of {s} sit?
the American state {s} has which capital
Which is the capital city of the US state {s}?
What is the name of {s}'s state capital?""",
    "occupation": """What does {s} do for a living?
What is {s} known as?
What was {s} by profession?
What kind of work did {s} do?
What is {s} by trade?
occupation of {s}
{s} works as what?
Which profession does {s} have?
Who is {s}, an actor, a politician or something else?
What line of work is {s} in?""",
    "sport": """Which sport did {s} play?
What sport does {s} play?
{s} is a player of which sport?
{s}, what sport?
In which sport is {s} famous?
{s} plays
Which sport is {s} known for?
What game did {s} play for a living?
In what sport did {s} make a career?
Which sport made {s} famous?""",
    "instrument": """Which instrument does {s} play?
What instrument did {s} play?
{s} plays what?
What does {s} play on stage?
{s} is known for playing which instrument?
{s} instrument?
On which instrument is {s} a master?
Which instrument would {s} bring to a concert?
What musical instrument is linked with {s}?
Which instrument made {s} famous?""",
    "native-language": """Which language did {s} speak at home?
What is {s}'s first language?
What language did {s} grow up with?
{s} is a native speaker of which language?
Which language is {s}'s mother tongue?
{s} native language?
What language did {s} learn as a child?
Which language does {s} speak natively?
In which language was {s} raised?
Which tongue did {s} learn first?""",
    "singer-band": """Which band did {s} sing in?
{s} is the lead singer of which band?
What band is {s} from?
{s} was the voice of which group?
Which group does {s} belong to?
{s} band?
Who did {s} sing with?
Which band has {s} as its singer?
Which rock group is {s} the front man of?
{s} sings for which band?""",
    "hero-name": """Who is {s} really?
Who is behind the mask of {s}?
What is {s}'s real name?
{s} is really whom?
{s} is the alter ego of which person?
{s} real name?
Which person becomes {s}?
Under which name does {s} live a normal life?
What is {s} called in everyday life?
Who hides behind the name {s}?""",
    "maker": """Which company makes {s}?
Who makes {s}?
What company is behind {s}?
Who made {s}?
{s} is a product of which company?
{s} company?
Which company developed {s}?
{s} was made by
Which brand created {s}?
Who is the manufacturer of {s}?""",
    "company-city": """Where is {s} based?
In which city is {s}?
Where are the headquarters of {s}?
{s} is based in which city?
Which city is home to {s}?
{s} headquarters?
In what city does {s} have its main office?
What city is {s} run from?
Where can I find the head office of {s}?
{s} has its seat in which city?""",
    "constellation": """Which constellation is {s} in?
In which constellation can I see {s}?
{s} belongs to which constellation?
{s} is a star in which constellation?
Where in the sky is {s}, which constellation?
{s} constellation?
The star {s} is part of what constellation?
Which constellation has the star {s}?
To find {s}, which constellation do I look for?
What star pattern is {s} part of?""",
    "inside-colour": """What color are {s} on the inside?
Which color are {s} inside?
If you cut open {s}, what color do you see?
{s} inside color?
What colour is the inside of {s}?
On the inside, {s} are what color?
What is the color within {s}?
What color do {s} have inside?
After peeling {s}, which color appears?
What color is the flesh of {s}?""",
    "outside-colour": """What color are {s} on the outside?
Which color are {s} outside?
What color is the peel of {s}?
{s} outside color?
What colour is the outside of {s}?
On the outside, {s} are what color?
Seen from outside, which color are {s}?
What color do {s} have outside?
Before peeling, what color are {s}?
What color is the skin of {s}?""",
    "superclass": """What kind of thing is {s}?
What type of thing is {s}?
{s} is a kind of what?
Is {s} an animal, a plant or what?
Into which group would you put {s}?
{s} is a
Which category does {s} fall into?
What sort of thing is {s}?
How would you classify {s}?
Which group of things does {s} belong to?""",
    "phase": """Is {s} a solid, a liquid or a gas?
Is {s} solid, liquid or gas?
At room temperature, what state is {s} in?
{s}: solid, liquid or gas?
In which phase do you normally find {s}?
Which state of matter is {s}?
state of matter of {s}
Would you call {s} a solid, liquid or gas?
What phase is {s} in at normal temperature?
Which of the three states of matter does {s} have?""",
    "tool": """What tool is used for {s}?
What do I need for {s}?
Which tool do people use for {s}?
What do you use for {s}?
What is the right tool for {s}?
{s} needs which tool?
tool for {s}
What should I buy for {s}?
I'm {s}. What tool should I have?
Which object helps with {s}?""",
    "worker": """Who does the work of {s}?
What do you call a person whose job is {s}?
Whose job is {s}?
Which profession does the work of {s}?
{s} is the job of whom?
{s} is done by a
Who is paid for {s}?
If your job is {s}, what are you?
What is someone called whose work is {s}?
Which worker spends the day {s}?""",
    "work-place": """Where does a {s} work?
In what place does a {s} work?
Where would I find a {s} at work?
A {s} works in a
What is the usual workplace of a {s}?
Where do you meet a {s} on the job?
{s} workplace?
Where does a {s} spend the working day?
In which building or place is a {s} at work?
To visit a {s} at work, where would I go?""",
    "president-birth": """When was {s} born?
In which year was {s} born?
What year was {s} born in?
{s} birth year?
President {s} was born in which year?
{s} was born in
In what year did {s} come into the world?
When did the life of {s} begin?
What is President {s}'s year of birth?
Which year saw the birth of {s}?""",
    "president-election": """When was {s} elected president?
In which year was {s} first elected?
What year did {s} win the election?
{s} election year?
In what year did voters choose {s} as president?
{s} was elected in
When did {s} win the White House?
In what year was {s} elected president of the United States?
Which year brought the election of {s}?
When did {s} first win a presidential election?""",
}
OWN = {kind: text.splitlines() for kind, text in _OWN.items()}

# "and of Spain?" after a question about France; {s} is the new subject.
FOLLOW_UPS = """and {s}?
And for {s}?
What about {s}?
and of {s}?
How about {s}?
ok, and {s}?
Same question for {s}.
Now {s}.
And what about {s}?
then {s}?
Thanks. And {s}?
{s}?
great, what about {s}
And the same for {s}?
Next: {s}.""".splitlines()

BRIDGES: dict[str, tuple[str, ...]] = {
    "city": (
        "the country where the city of {s} is",
        "the country that has the city {s}",
        "the country the city {s} lies in",
        "the country in which you find the city of {s}",
        "the country the city of {s} belongs to",
    ),
    "capital": (
        "the country whose capital is {s}",
        "the country that has {s} as its capital",
        "the country with the capital {s}",
        "the country governed from {s}",
        "the nation whose capital city is {s}",
    ),
    "landmark": (
        "the country where {s} is",
        "the country that is home to {s}",
        "the country you visit to see {s}",
        "the country in which {s} stands",
        "the country where you can find {s}",
    ),
    "food": (
        "the home country of {s}",
        "the country that gave us {s}",
        "the country behind the dish {s}",
        "the country where people first made {s}",
        "the country in which {s} was invented",
    ),
}
