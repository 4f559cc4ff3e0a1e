"""Scenes of the word problems by equation shape: ``{a} {b} {c}`` are numbers, ``{n} {m}`` names, ``{o}``
objects."""

from __future__ import annotations

NAMES: tuple[str, ...] = (
    "Tom", "Anna", "Ben", "Maria", "Sam", "Lucy", "Omar", "Nina", "Jack", "Emma", "Leo", "Sara", "Max",
    "Julia", "Ali", "Mia", "Paul", "Rosa", "Ivan", "Kate", "David", "Lily", "Noah", "Ella", "Peter", "Grace",
    "Adam", "Zoe", "Carlos", "Amy", "Hugo", "Priya", "Ken", "Olga", "Felix", "Clara", "Mark", "Fatima",
    "John", "Mary",
)  # fmt: skip

OBJECTS: tuple[str, ...] = (
    "apples", "marbles", "books", "stickers", "pencils", "cookies", "oranges", "coins", "stamps", "cards",
    "balloons", "shells", "flowers", "eggs", "toys", "candies", "pens", "photos", "stones", "buttons",
    "cakes", "pears", "plums", "nuts", "beads", "leaves", "crayons", "tickets", "bottles", "cups",
)  # fmt: skip

SCENES: dict[str, tuple[str, ...]] = {
    "add": (
        "{n} has {a} {o} and buys {b} more. How many {o} does {n} have now?",
        "{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have together?",
        "There are {a} {o} on the table and {b} {o} in the box. How many {o} are there in total?",
        "{n} picked {a} {o} in the morning and {b} in the afternoon. How many {o} did {n} pick in all?",
        "{n} found {a} {o} on Monday and {b} on Tuesday. How many {o} did {n} find altogether?",
        "A farmer has {a} sheep and {b} goats. How many animals does the farmer have?",
        "{n} read {a} pages yesterday and {b} pages today. How many pages is that in total?",
        "A train carries {a} people. At the next stop {b} more people get on. How many people are "
        "on the train?",
        "A shop sold {a} {o} on Friday and {b} on Saturday. How many did it sell over the two days?",
        "{n} had {a} {o}. {m} gave {n} {b} more. How many {o} does {n} have now?",
        "{n} drove {a} km before lunch and {b} km after lunch. How far did {n} drive?",
        "A coat costs {a} dollars and a hat costs {b} dollars. How much do they cost together?",
        "{n} is {a} years old. How old will {n} be in {b} years?",
        "In a school there are {a} boys and {b} girls. How many children are in the school?",
        "A shelf holds {a} {o} and another shelf holds {b}. How many {o} do both shelves hold?",
        "{m} has {a} {o}. {n} has {b} more than {m}. How many {o} does {n} have?",
    ),
    "sub": (
        "{n} has {a} {o} and gives {b} to {m}. How many {o} does {n} have left?",
        "There were {a} {o} in a basket. {n} took {b} of them. How many {o} are left?",
        "{n} had {a} dollars and spent {b} dollars. How many dollars are left?",
        "{n} baked {a} cakes and sold {b} of them. How many cakes remain?",
        "{n} had {a} {o} but lost {b}. How many {o} does {n} still have?",
        "{n} has {a} {o} and {m} has {b}. How many more {o} does {n} have than {m}?",
        "A bus has {a} seats and {b} are taken. How many seats are free?",
        "A book has {a} pages. {n} has read {b} pages. How many pages are left to read?",
        "A rope is {a} meters long. {n} cuts off {b} meters. How long is the rope now?",
        "Of {a} children, {b} went home. How many children stayed?",
        "{a} birds sat on a roof. Then {b} flew away. How many birds are still there?",
        "{n} needs {a} {o} and already has {b}. How many more {o} does {n} need?",
        "{n} is {a} years old and {m} is {b}. How many years older is {n}?",
        "A farm had {a} cows and sold {b}. How many cows does the farm have now?",
        "A shop had {a} {o}. By evening {b} were sold. How many {o} were not sold?",
        "{n} ate {b} of the {a} {o}. How many {o} are left over?",
    ),
    "mul": (
        "There are {a} rows of chairs with {b} chairs in each row. How many chairs are there?",
        "{n} buys {a} boxes with {b} {o} in each box. How many {o} does {n} have?",
        "One ticket costs {b} dollars. How much do {a} tickets cost?",
        "{a} children each have {b} {o}. How many {o} do they have in all?",
        "{n} runs {b} km every day. How far does {n} run in {a} days?",
        "A box holds {b} {o}. How many {o} are in {a} boxes?",
        "{n} reads {b} pages a day. How many pages does {n} read in {a} days?",
        "{n} earns {b} dollars an hour. How much does {n} earn in {a} hours?",
        "Each of {a} bags contains {b} {o}. How many {o} are there altogether?",
        "A garden has {a} rows with {b} plants each. How many plants grow in the garden?",
        "{n} has {a} packs of {b} {o}. How many {o} is that?",
        "A table has {b} legs. How many legs do {a} tables like this have?",
        "A car uses {b} liters of fuel each day. How many liters does it use in {a} days?",
        "A class has {a} groups of {b} children. How many children are in the class?",
        "{n} saves {b} dollars each week. How much has {n} saved after {a} weeks?",
    ),
    "div": (
        "{n} shares {a} {o} equally among {b} friends. How many {o} does each friend get?",
        "{a} {o} are packed into boxes of {b}. How many boxes are needed?",
        "{a} chairs stand in {b} equal rows. How many chairs are in each row?",
        "{n} splits {a} {o} into {b} equal groups. How many {o} are in each group?",
        "{a} dollars are divided equally between {b} people. How much does each person get?",
        "{n} paid {a} dollars for {b} tickets. How much did one ticket cost?",
        "A rope of {a} meters is cut into {b} equal pieces. How long is each piece?",
        "{n} read {a} pages in {b} days, the same number each day. How many pages were read per day?",
        "A teacher gives {a} {o} to {b} children so that all get the same. How many does each child get?",
        "{n} puts {a} {o} into {b} bags, the same number in each bag. How many {o} are in one bag?",
        "{n} has {a} {o} and puts {b} on each plate. How many plates are filled?",
        "{a} children form teams of {b}. How many teams are there?",
        "A walk of {a} km is done in {b} equal stages. How long is one stage?",
        "{n} earned {a} dollars in {b} hours. How much is that per hour?",
        "{a} {o} are dealt evenly to {b} players. How many does every player receive?",
    ),
    "a+b+c": (
        "{n} has {a} {o}, buys {b} more and then finds {c} more. How many {o} does {n} have now?",
        "{n} picked {a} {o} on Monday, {b} on Tuesday and {c} on Wednesday. How many {o} are there in all?",
        "A bus carries {a} people. {b} get on at one stop and {c} at the next. How many people are "
        "on the bus?",
        "A pen costs {a} dollars, a bag {b} dollars and a book {c} dollars. How much do they cost together?",
        "There are {a} red, {b} blue and {c} green {o}. How many {o} are there altogether?",
        "{n} walked {a} km, then {b} km and then {c} km. How far did {n} walk in total?",
    ),
    "a+b-c": (
        "{n} has {a} {o} and buys {b} more. Then {n} gives {c} to {m}. How many {o} are left?",
        "{n} had {a} dollars, earned {b} dollars and spent {c} dollars. How many dollars does {n} have now?",
        "A bus has {a} people. {b} get on and {c} get off. How many people are on the bus now?",
        "{n} picked {a} {o} and {m} picked {b}. They ate {c} of them. How many {o} remain?",
        "A shop had {a} {o}. It received {b} more and sold {c}. How many {o} does the shop have now?",
        "{n} found {a} {o} and then {b} more, but lost {c}. How many {o} does {n} still have?",
    ),
    "a-b-c": (
        "{n} had {a} {o}, gave {b} to {m} and lost {c}. How many {o} are left?",
        "{n} had {a} dollars. A book cost {b} dollars and a pen {c} dollars. How much money is left?",
        "A shop had {a} {o}. It sold {b} on Monday and {c} on Tuesday. How many {o} are left?",
        "There were {a} people in a hall. {b} left early and {c} left later. How many people stayed?",
        "{n} baked {a} cakes. {m} ate {b} and {c} were sold. How many cakes remain?",
        "A book has {a} pages. {n} read {b} pages yesterday and {c} today. How many pages are left?",
    ),
    "a-b+c": (
        "{n} had {a} {o}, gave away {b} and then bought {c} more. How many {o} does {n} have now?",
        "A bus had {a} people. {b} got off and {c} got on. How many people are on the bus now?",
        "{n} had {a} dollars, spent {b} dollars and then earned {c} dollars. How much money does "
        "{n} have now?",
        "A farm had {a} cows, sold {b} and bought {c}. How many cows are there now?",
        "There were {a} {o} in a box. {n} took out {b} and {m} put in {c}. How many {o} are in the box now?",
        "{n} lost {b} of {a} {o} and later found {c} new ones. How many {o} does {n} have now?",
    ),
    "a*b+c": (
        "{n} has {a} boxes with {b} {o} each and {c} single {o}. How many {o} does {n} have?",
        "There are {a} rows of {b} chairs and {c} extra chairs. How many chairs are there?",
        "{n} buys {a} tickets for {b} dollars each and a drink for {c} dollars. How much does {n} pay?",
        "{n} saves {b} dollars a week for {a} weeks and then gets {c} dollars. How much money does {n} have?",
        "{n} buys {a} packs of {b} {o} and already had {c}. How many {o} does {n} have now?",
        "{a} bags hold {b} {o} each, and {c} more {o} lie on the floor. How many {o} are there in total?",
    ),
    "a*b-c": (
        "{n} has {a} boxes with {b} {o} each and gives away {c}. How many {o} are left?",
        "There are {a} rows of {b} chairs. {c} chairs are broken. How many chairs are fine?",
        "{n} buys {a} bags of {b} {o} and eats {c}. How many {o} remain?",
        "{n} earns {b} dollars an hour for {a} hours and then spends {c} dollars. How much is left?",
        "A baker makes {a} trays of {b} cakes and sells {c} cakes. How many cakes are left?",
        "{a} children have {b} {o} each. Together they lose {c}. How many {o} do they still have?",
    ),
    "a-b*c": (
        "{n} has {a} dollars and buys {b} {o} for {c} dollars each. How much money is left?",
        "{n} has {a} {o} and gives {c} to each of {b} friends. How many {o} are left?",
        "A rope is {a} meters long. {n} cuts off {b} pieces of {c} meters each. How many meters are left?",
        "There are {a} {o}. {b} boxes are filled with {c} {o} each. How many {o} are left over?",
        "A book has {a} pages. {n} reads {c} pages a day for {b} days. How many pages are left?",
        "{n} pays for {b} tickets at {c} dollars each with {a} dollars. How much change does {n} get?",
    ),
    "(a+b)/c": (
        "{n} has {a} {o} and {m} has {b}. They share them equally among {c} friends. How many does "
        "each friend get?",
        "{a} boys and {b} girls form {c} equal teams. How many children are in each team?",
        "{n} picks {a} {o} and then {b} more and packs them equally into {c} boxes. How many are "
        "in each box?",
        "A hat costs {a} dollars and a scarf {b} dollars. {c} friends share the cost. How much "
        "does each pay?",
        "{n} adds {a} red and {b} blue {o} and splits them into {c} equal groups. How many are in "
        "each group?",
        "There are {a} {o} in one bag and {b} in another. {c} children share all of them. How many "
        "does each get?",
    ),
    "(a-b)/c": (
        "{n} has {a} {o}, keeps {b} and shares the rest equally among {c} friends. How many does "
        "each friend get?",
        "Of {a} children {b} went home. The others form {c} equal teams. How many children are in each team?",
        "{n} had {a} dollars, spent {b} dollars and split the rest among {c} people. How much does each get?",
        "A baker made {a} cakes and ate {b}. The rest go into {c} boxes equally. How many cakes "
        "are in each box?",
        "There were {a} {o}, but {b} were broken. The rest are shared by {c} children. How many "
        "does each get?",
        "{n} has {a} {o}, loses {b} and puts the rest into {c} equal piles. How many {o} are in each pile?",
    ),
}
