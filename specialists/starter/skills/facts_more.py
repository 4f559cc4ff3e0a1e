"""More ways to ask for facts, drawn by the training and fitting splits alone."""

from __future__ import annotations

MORE_FRAMES: tuple[str, ...] = (
    "{x}", "{x}?", "{x}, please", "{x}, please?", "{x}: what's the answer?", "{x} is ...?", "{x}, anyone?",
    "{x}, do you know it?", "Tell me {x}.", "tell me {x} please", "Please tell me {x}.", "Name {x}.",
    "Can you name {x}?", "Could you name {x} for me?", "Give me {x}.", "Can you give me {x}?",
    "Could you tell me {x}?", "Would you tell me {x}, please?", "Do you know {x}?",
    "do you happen to know {x}", "Do you remember {x}?", "Any idea about {x}?", "I forgot {x}, remind me.",
    "I can't remember {x}. Can you help?", "I can never remember {x}.", "Remind me of {x}.",
    "I need to know {x}.", "I'd like to know {x}.", "I want to know {x}.", "I'm looking for {x}.",
    "I'm trying to remember {x}.", "I was wondering about {x}.", "Quick question: {x}?",
    "Quiz question: {x}.", "Quiz night! I need {x}.", "For my homework I need {x}.",
    "My teacher asked me for {x}.", "My kid wants to know {x}.", "My crossword asks for {x}.",
    "We were arguing about {x}. Can you settle it?", "Hi, can you help me with {x}?", "hey, {x}?",
    "Sorry to bother you, but could you tell me {x}?", "Fill in the blank: {x} is ___.",
    "Complete this: {x} is", "Question: {x}?", "Let me know {x}.", "Help me out with {x}.",
    "If you know {x}, please say it.", "Please answer with {x}.",
)  # fmt: skip

MORE_BRIDGE_ASKS: tuple[str, ...] = (
    "Which country is {x}?", "which country would be {x}", "Name {x}.", "{x}: which one is it?",
    "{x}, which is that?", "What is the name of {x}?", "Can you tell me which country is {x}?",
    "Do you know the name of {x}?", "I'm thinking of {x}. Which country is it?", "Tell me which one is {x}.",
    "On a map, what is {x} called?", "I forgot what {x} is called. Which country is it?",
)  # fmt: skip

MORE_BRIDGES: dict[str, tuple[str, ...]] = {
    "city": (
        "the country of the city {s}", "the country around the city {s}", "the land where {s} is a city",
        "the country you are in when you walk through the city {s}", "the home country of the city {s}",
        "the country on whose map one finds the city {s}", "the nation the city of {s} is part of",
        "the country to which the city {s} belongs",
    ),
    "capital": (
        "the country that is run from {s}", "the country that calls {s} its capital",
        "the land with its capital in {s}",
        "the country whose government sits in {s}", "the country of which {s} is the capital city",
        "the state that has its capital at {s}", "the country that chose {s} as capital",
        "the country for which {s} is the capital",
    ),
    "landmark": (
        "the country of {s}", "the country that holds {s}", "the land where {s} can be visited",
        "the country where tourists see {s}", "the country that {s} belongs to", "the country {s} lies in",
        "the country one goes to for {s}", "the nation where {s} is found",
    ),
    "food": (
        "the country {s} comes from", "the country where {s} was first cooked",
        "the country of origin of {s}",
        "the land where {s} was born", "the country known for {s}", "the country whose kitchen gave us {s}",
        "the country that invented {s}", "the nation that first ate {s}",
    ),
}  # fmt: skip
