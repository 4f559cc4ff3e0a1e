"""Surface templates of the word tasks: ``{w}`` is the word, number or list that the task is about."""

from __future__ import annotations

TEMPLATES: dict[str, tuple[str, ...]] = {
    "plural": (
        "What is the plural of {w}?", "plural of {w}", "Give the plural of {w}.", "Make {w} plural.",
        "What do you call more than one {w}?", "One {w}, two what?", "{w} in the plural",
        "The plural of {w} is", "Write {w} in the plural.", "Which plural does {w} have?",
        "Plural form of {w}?", "Turn {w} into its plural.", "What's the plural form of {w}?",
        "Tell me the plural of {w}.", "How do you write the plural form of {w}?",
    ),
    "past": (
        "What is the past tense of {w}?", "past tense of {w}", "Give the past tense of {w}.",
        "Put {w} into the past.", "Say {w} in the past tense.", "The past tense of {w} is",
        "Past form of {w}?", "{w} in the past tense", "Write {w} in the past tense.",
        "What does {w} become in the past?", "Turn {w} into the past tense.",
        "What's the simple past of {w}?", "simple past of {w}", "Tell me the past of {w}.",
        "Which past tense form does {w} have?",
    ),
    "antonym": (
        "What is the opposite of {w}?", "opposite of {w}", "Give the opposite of {w}.",
        "What is the reverse of {w}?", "Tell me the opposite of {w}.", "antonym of {w}",
        "What is an antonym of {w}?", "The opposite of {w} is", "Opposite for {w}?",
        "Find the opposite of {w}.", "Name the opposite of {w}.", "What's the opposite of {w}?",
        "Give me an antonym for {w}.", "{w}: opposite?", "Which word is the opposite of {w}?",
    ),
    "synonym": (
        "What is a synonym of {w}?", "synonym of {w}", "Give a synonym for {w}.",
        "Say {w} with another word.", "Which word means nearly the same as {w}?",
        "What is another word for {w}?", "another word for {w}", "A synonym of {w} is",
        "Synonym for {w}, please", "Tell me a synonym for {w}.", "Name a synonym of {w}.",
        "What word means the same as {w}?", "Find a synonym of {w}.", "{w}: synonym?",
        "Do you know a synonym for {w}?",
    ),
    "spell": (
        "Spell {w}.", "How do you spell {w}?", "spell {w}", "Letter by letter, please: {w}",
        "Can you spell {w}?", "How is {w} spelled?", "Spell the word {w}.", "Spell out {w}.",
        "Please spell {w} for me.", "Show the spelling of {w}.", "Spell {w} letter by letter.",
        "What are the letters of {w}?", "spelling of {w}", "Write {w} letter by letter.",
        "Could you spell out the word {w}?",
    ),
    "first_letter": (
        "What is the first letter of {w}?", "first letter of {w}", "Which letter does {w} start with?",
        "Name the first letter in {w}.", "What letter is first in {w}?", "Give the first letter of {w}.",
        "The first letter of {w} is", "{w} starts with which letter?", "First letter in {w}?",
        "How does {w} begin?", "What letter does {w} begin with?", "Tell me the first letter of {w}.",
        "first letter in the word {w}", "Say the first letter of {w}.", "With which letter does {w} begin?",
    ),
    "last_letter": (
        "What is the last letter of {w}?", "last letter of {w}", "Which letter does {w} end with?",
        "Name the last letter in {w}.", "What letter is last in {w}?", "Give the last letter of {w}.",
        "The last letter of {w} is", "{w} ends with which letter?", "Final letter in {w}?",
        "How does {w} end?", "What letter does {w} end in?", "Tell me the last letter of {w}.",
        "last letter in the word {w}", "Say the last letter of {w}.", "With which letter does {w} end?",
    ),
    "capitalize": (
        "Capitalize {w}.", "capitalize {w}", "Write {w} with a capital letter.",
        "{w} with a big first letter", "Give {w} a capital first letter.", "Capitalize the word {w}.",
        "Start {w} with a capital letter.", "Capitalise {w}.", "Can you capitalize {w}, please?",
        "Make the first letter of {w} a capital.", "Make {w} start with a capital.",
        "How do you write {w} with a capital?", "capitalise the word {w}", "Please put a capital on {w}.",
        "Write {w} with a capital first letter.",
    ),
    "uppercase": (
        "Write {w} in capital letters.", "{w} in upper case", "Put {w} in capitals.",
        "Uppercase the word {w}.", "Show {w} in all capital letters.", "Write {w} in all caps.",
        "uppercase {w}", "Make {w} all caps.", "Turn {w} into capitals.", "Can you write {w} in capitals?",
    ),
    "length": (
        "How many letters are in {w}?", "number of letters in {w}", "How long is the word {w}?",
        "Letters in {w}?", "How many letters make up {w}?", "Count the letters in {w}.",
        "How many letters does {w} have?", "length of {w}", "What is the length of {w}?",
        "Letter count of {w}", "Count the letters of {w}.", "The word {w} has how many letters?",
        "How many letters has {w}?", "{w}: how many letters?", "Tell me how many letters the word {w} has.",
    ),
    "comparative": (
        "What is the comparative of {w}?", "comparative of {w}", "Give the comparative of {w}.",
        "The comparative form of {w}?", "Make {w} comparative.", "The comparative form of {w} is",
        "{w} in the comparative", "Comparative form of {w}?", "Say the comparative of {w}.",
        "Tell me the comparative of {w}.", "Write the comparative of {w}.",
        "What's the comparative form of {w}?", "Turn {w} into the comparative.",
        "Which comparative does {w} have?", "How do you form the comparative of {w}?",
    ),
    "superlative": (
        "What is the superlative of {w}?", "superlative of {w}", "Give the superlative of {w}.",
        "The superlative form of {w}?", "Make {w} superlative.", "The superlative form of {w} is",
        "{w} in the superlative", "Superlative form of {w}?", "Say the superlative of {w}.",
        "Tell me the superlative of {w}.", "Write the superlative of {w}.",
        "What's the superlative form of {w}?", "Turn {w} into the superlative.",
        "Which superlative does {w} have?", "How do you form the superlative of {w}?",
    ),
    "next": (
        "What comes after {w}?", "What comes next after {w}?", "next after {w}", "What is right after {w}?",
        "Name what comes after {w}.", "What follows {w}?", "After {w} comes", "Which one comes after {w}?",
        "What's next after {w}?", "Say what follows {w}.", "Tell me what comes after {w}.", "{w}, and then?",
        "What is next after {w}?", "{w}, next?", "What directly follows {w}?",
    ),
    "previous": (
        "What comes before {w}?", "What comes right before {w}?", "just before {w}",
        "What is right before {w}?", "Name what comes before {w}.", "What precedes {w}?", "Before {w} comes",
        "Which one comes before {w}?", "What was before {w}?", "Say what precedes {w}.",
        "Tell me what comes before {w}.", "{w}, and before that?", "What is just before {w}?",
        "{w}, previous?", "What directly precedes {w}?",
    ),
    "choose_first": (
        "Choose the first of these: {w}", "Which word is first? {w}", "Give the first word of: {w}",
        "Pick the first: {w}", "Take the first one of these: {w}",
        "What is the first word in this list: {w}", "First of: {w}", "Name the first item: {w}",
        "{w}. Which one is first?", "Repeat only the first one: {w}",
    ),
    "choose_last": (
        "Choose the last of these: {w}", "Which word is last? {w}", "Give the last word of: {w}",
        "Pick the last: {w}", "Take the last one of these: {w}", "What is the last word in this list: {w}",
        "Last of: {w}", "Name the last item: {w}", "{w}. Which one is last?",
        "Repeat only the last one: {w}",
    ),
    "choose_middle": (
        "Choose the middle one of these: {w}", "Which word is in the middle? {w}",
        "Give the middle word of: {w}", "Pick the one in the middle: {w}",
        "Take the middle one of these: {w}", "What is the middle word in this list: {w}", "Middle of: {w}",
        "Name the middle item: {w}", "{w}. Which one is in the middle?", "Repeat only the middle one: {w}",
    ),
    "reverse_list": (
        "Reverse this list: {w}", "Write these in reverse order: {w}", "Reverse the order of: {w}",
        "Turn this around: {w}", "Give these words in reverse order: {w}", "List these backwards: {w}",
        "reverse: {w}", "Backwards, please: {w}", "Put this list in reverse order: {w}",
        "Say these from last to first: {w}",
    ),
    "alphabetical_first": (
        "Which comes first in the alphabet: {w}?", "Which word is alphabetically first? {w}",
        "Alphabetically first of: {w}", "Pick what a dictionary lists first: {w}",
        "Which of these comes first in alphabetical order: {w}", "Choose the alphabetically first word: {w}",
        "First in alphabetical order: {w}", "Which of these comes first alphabetically? {w}",
        "Find the word that is first alphabetically: {w}",
        "Which word would come first in a dictionary: {w}",
    ),
}  # fmt: skip

FOLLOW_UPS: tuple[str, ...] = (
    "and of {w}?", "and {w}?", "What about {w}?", "and what about {w}?", "Now {w}.", "And for {w}?",
    "how about {w}?", "Same for {w}.", "Also {w}?", "And now for {w}?", "and {w}", "Next: {w}", "Then {w}?",
    "{w}?", "Do the same with {w}.",
)  # fmt: skip
