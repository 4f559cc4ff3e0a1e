"""Openings to go on from, texts about a thing, and plain ones, for models that write little stories."""

from __future__ import annotations

NAMES = ("Lily", "Tom", "Ben", "Mia", "Sam", "Anna", "Tim", "Sue", "Max", "Lucy", "Jack", "Ella")
# Common in such stories; the first few that a model says now and then are measured.
THINGS = ("dog", "cat", "bird", "fish", "ball", "tree", "car", "flower", "bear", "doll", "rock", "boat")

# Layer and strength are chosen on the first, and judged on the second.
VALIDATE = (
    "Once upon a time, there was a child named {n}. {n} liked to",
    "One day, {n} went to the park with mom. They saw a",
    "{n} was sad. {n} could not find a",
    "It was a sunny day. {n} wanted to play with a",
    "{n} and dad went to the store. They wanted to buy a",
    "Every morning {n} looked out of the window. Today {n} saw a",
    "{n} had a big box. In the box there was a",
    "In the night {n} heard a noise. It was a",
)
JUDGE = (
    "{n} went for a walk. On the way {n} met a",
    "One day {n} was in the kitchen with mom. They made",
    "{n} liked to go outside. One day {n} found",
    "There was a little house by the hill. In the house lived {n} and",
    "{n} was at school. The teacher showed the children a",
    "After lunch {n} went to the garden. There was",
    "{n} woke up early. Today was a special day because",
    "Grandma gave {n} a present. {n} opened it and saw",
)
# What a vector is made from; "{c}" is the thing.
ABOUT = (
    "{n} saw a {c}. The {c} was big and {n} liked the {c} very much.",
    'One day {n} found a little {c}. "Hello, {c}!" said {n}. The {c} was happy.',
    "{n} and mom went to see the {c}. They played with the {c} all day.",
    '"Look, it is a {c}!" said {n}. "I love the {c}. I want a {c} too."',
    "There was a {c} in the house. The {c} was red. {n} wanted to play with the {c}.",
    "Once upon a time there was a {c}. The {c} had a friend named {n}. {n} and the {c} were best friends.",
    "{n} had a new {c}. {n} went to the park with the {c} and showed the {c} to mom.",
    "{n} heard a noise. It was a {c}! The {c} wanted to go home.",
)
# What must not become much less likely, while choosing and when judging.
PLAIN = (
    "{n} went to the store with mom. They bought bread and milk and then they walked home to eat.",
    "{n} was happy. It was time for bed, so {n} put on a hat and said good night to everyone.",
    "{n} was hungry. Mom made some soup, and {n} ate it all with a big spoon at the table.",
)
PLAIN_HELD = (
    "It was raining, so {n} stayed in the house. {n} and dad read a book and drank warm milk.",
    "{n} wanted to paint. {n} took some paper and made a picture of the sun for grandma.",
    "One day {n} was sick. Mom said that {n} must sleep a lot. Soon {n} felt much better.",
)
