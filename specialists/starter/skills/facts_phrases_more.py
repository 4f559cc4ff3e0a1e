"""More noun phrases for what a relation asks for, drawn by the training and fitting splits alone."""

from __future__ import annotations

MORE_PHRASES: dict[str, tuple[str, ...]] = {
    "capital": (
        "the city that is the capital of {s}", "the seat of government of {s}",
        "the capital that belongs to {s}", "the city from which {s} is governed",
        "the name of the capital of {s}", "the city where the government of {s} sits",
    ),
    "language": (
        "the language spoken in {s}", "the language people use in {s}", "the tongue of the people of {s}",
        "the official language of {s}", "the name of the language of {s}",
        "the language that most people speak in {s}",
    ),
    "currency": (
        "the money of {s}", "the currency used in {s}", "the official currency of {s}",
        "the name of the money in {s}", "the currency people pay with in {s}",
        "the money that shops take in {s}",
    ),
    "largest-city": (
        "the most populous city of {s}", "the city with the most people in {s}", "the largest city in {s}",
        "the number one city by population in {s}", "the name of the biggest city of {s}",
        "the city in which most people live in {s}",
    ),
    "city-country": (
        "the country {s} is in", "the country to which the city {s} belongs",
        "the country where one finds {s}", "the country that has {s} as a city",
        "the nation of the city {s}", "the name of the country around {s}",
    ),
    "continent": (
        "the continent {s} is on", "the continent to which {s} belongs", "the continent that {s} is part of",
        "the part of the world, as a continent, of {s}", "the name of the continent of {s}",
        "the continent on whose map one finds {s}",
    ),
    "landmark-country": (
        "the country {s} is in", "the country that has {s}", "the country where one can visit {s}",
        "the country one travels to for {s}", "the name of the country with {s}",
        "the location, as a country, of {s}",
    ),
    "food-country": (
        "the country of origin of {s}", "the country that gave us {s}", "the country where {s} was invented",
        "the land of {s}", "the country whose cooking has {s}", "the birthplace, as a country, of {s}",
    ),
    "state-capital": (
        "the capital of the US state {s}", "the capital of the American state of {s}",
        "the city that is the state capital of {s}", "the city from which the state of {s} is governed",
        "the seat of the state government of {s}", "the name of the state capital of {s}",
    ),
    "occupation": (
        "the job of {s}", "the profession of {s}", "the work that {s} is known for",
        "the line of work of {s}", "the thing {s} did for a living", "the trade of {s}",
    ),
    "sport": (
        "the sport that {s} plays", "the sport {s} is famous for", "the game that {s} played",
        "the sport in which {s} competed", "the professional sport of {s}", "the name of the sport of {s}",
    ),
    "instrument": (
        "the instrument that {s} played", "the musical instrument of {s}", "the instrument {s} is known for",
        "the instrument {s} performs on", "the main instrument of {s}", "the name of the instrument of {s}",
    ),
    "native-language": (
        "the first language of {s}", "the language {s} grew up with", "the language {s} was raised in",
        "the language of the childhood of {s}", "the language {s} learned first", "the home language of {s}",
    ),
    "singer-band": (
        "the band that {s} was the singer of", "the group {s} sang in", "the band fronted by {s}",
        "the band with {s} on vocals", "the name of the band of {s}", "the music group of {s}",
    ),
    "hero-name": (
        "the true identity of {s}", "the person behind {s}", "the civilian name of {s}",
        "the secret identity of {s}", "the name of the person who is {s}", "the alter ego of {s}",
    ),
    "maker": (
        "the company that makes {s}", "the manufacturer of {s}", "the company that developed {s}",
        "the firm that sells {s}", "the brand behind {s}", "the name of the company behind {s}",
    ),
    "company-city": (
        "the city where {s} is based", "the city of the head office of {s}", "the headquarters of {s}",
        "the city {s} is run from", "the seat of {s}", "the city that is home to {s}",
    ),
    "constellation": (
        "the constellation of {s}", "the constellation where {s} shines",
        "the constellation to which {s} belongs", "the constellation with the star {s}",
        "the name of the constellation around {s}", "the group of stars that has {s} in it",
    ),
    "inside-colour": (
        "the color inside {s}", "the color of the inside of {s}", "the color of the pulp of {s}",
        "the color {s} have on the inside", "the color one sees after cutting {s}",
        "the color under the skin of {s}",
    ),
    "outside-colour": (
        "the color outside of {s}", "the color of the outside of {s}", "the color of the peel of {s}",
        "the color {s} have on the outside", "the color one sees before cutting {s}",
        "the color that the skin of {s} has",
    ),
    "superclass": (
        "the kind of thing that {s} is", "the general term for {s}", "the group of things with {s} in it",
        "the broader term for {s}", "the type of thing {s} is", "the class of {s}",
    ),
    "phase": (
        "the state of matter of {s}", "the state, solid, liquid or gas, of {s}", "the usual phase of {s}",
        "the phase {s} has at room temperature", "the physical state of {s}",
        "the form, solid, liquid or gas, of {s}",
    ),
    "tool": (
        "the tool used for {s}", "the right tool for {s}", "the tool one needs for {s}",
        "the instrument for {s}", "the tool that is made for {s}", "the name of the tool for {s}",
    ),
    "worker": (
        "the job of {s}", "the person whose work is {s}", "the professional who does {s}",
        "the name for someone whose job is {s}", "the worker for {s}", "the expert one hires for {s}",
    ),
    "work-place": (
        "the place where a {s} works", "the place of work of a {s}", "the place to find a {s} at work",
        "the working place of a {s}", "the building or place in which a {s} works",
        "the spot where a {s} spends the working day",
    ),
    "president-birth": (
        "the year in which {s} was born", "the year {s} was born", "the year of the birth of {s}",
        "the birth year of President {s}", "the year that saw the birth of {s}",
        "the year the life of {s} began",
    ),
    "president-election": (
        "the year in which {s} was elected", "the year {s} was elected president",
        "the year {s} won the presidency", "the year {s} won the White House",
        "the year that saw {s} elected", "the year voters first chose {s}",
    ),
}  # fmt: skip
