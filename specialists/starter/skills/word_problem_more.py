"""More scenes for word problems, drawn by the training and fitting splits only: the others keep their own."""

from __future__ import annotations

MORE_SCENES: dict[str, tuple[str, ...]] = {
    "add": (
        "{n} has {a} {o} and finds {b} more. How many {o} does {n} have now?",
        "How many {o} does {n} have after getting {b} more, if there were {a} at first?",
        "{a} ducks on the pond, {b} ducks on the grass, how many ducks?", ("There are {a} girls and {b} boys "
         "in the choir. How many children sing in the choir?"), ("The bus had {a} passengers. At the next "
         "stop {b} people got on. Nobody got off. How many are on it now?"), ("{n} read {a} pages on Monday "
         "and {b} pages on Tuesday. How many pages is that altogether?"), ("A shirt costs {a} dollars and a "
         "hat costs {b} dollars. What is the cost of the shirt and the hat together?"),
        "{m} gave {b} {o} to {n}, who already had {a}. How many does {n} have in the end?",
        "Find the total weight of a cat that weighs {a} kilos and a dog that weighs {b} kilos.",
        "The red team scored {a} points and the blue team scored {b}. How many points were scored in total?",
        "{n} walked {a} metres to the shop and then {b} metres to the park. How far did {n} walk?",
        "{a} cups in the sink. {b} cups on the table. all the cups together?", ("It rained {a} millimetres "
         "in March and {b} millimetres in April. How much rain fell over those months?"),
        ("The farmer picked {a} pears before lunch. After lunch he picked {b} more. What is his total for "
         "the day?"), "{n} is {a} years old. How old will {n} be in {b} years?",
        "{m} has {b} more {o} than {n}. {n} has {a}. How many {o} does {m} have?",
        "If {b} new books arrive at a library shelf that holds {a} books, how many books are on the shelf?",
        "A plant was {a} centimetres tall. It has grown {b} centimetres since then. How tall is it now?",
        "{n} gave away {b} {o} and still has {a}. How many {o} were there to begin with?",
        "After {b} people left the hall, {a} stayed. How many people were in the hall before?",
        ("{n} baked {a} muffins. {m} baked {b} muffins. They put all of them on a big tray. How many are on "
         "the tray?"), ("The front train car holds {a} people and the back car holds {b}. How many people "
         "can ride in all?"), ("What is the length of a rope made by joining a piece of {a} metres to a "
         "piece of {b} metres?"), ("{n} had {a} dollars saved. Grandma sent {b} dollars for a birthday. How "
         "much money is there now?"), ("In the box are {a} red pens and {b} blue pens, nothing else. How "
         "many pens are in the box?"), ("{a} tickets were sold on Friday, {b} on Saturday. Tickets sold over "
         "the weekend days: how many?"), ("{n} spent {a} minutes on maths and {b} minutes on spelling. How "
         "long did {n} study altogether?"), ("The jug has {a} cups of water. {m} pours in {b} cups more. How "
         "many cups of water are in the jug?"), ("{n} planted {a} tulips. It was a sunny day. Then {n} "
         "planted {b} roses. How many flowers were planted?"), ("Count the birds: {a} in the tree and {b} on "
         "the fence."), "how many {o} in all if {n} brings {a} and {m} brings {b}?",
        "A baker used {a} eggs for cakes and {b} eggs for bread. How many eggs did the baker use?",
        "{b} goals this season and {a} goals last season: how many goals has {n} scored in these seasons?",
        "A book costs {b} dollars more than a toy. The toy costs {a} dollars. How much is the book?",
        "There were {a} cars in the car park, and then {b} more drove in. Now there are how many cars?",
        "The hen house has {a} brown hens and {b} white hens. How many hens live there?",
        "{n} won {b} {o} at the fair. Before the fair {n} owned {a}. How many {o} does {n} own now?",
        "On the farm you can see {a} sheep and {b} goats. How many animals can you see?",
        "A soup needs {a} carrots, and a salad needs {b}. How many carrots are needed for these dishes?",
        "A snail crawled {a} steps in the morning and {b} steps at night. Find how many steps it crawled.",
    ),
    "sub": (
        "{n} had {a} {o} and lost {b}. How many are left?", "{a} birds, {b} fly off, how many stay?",
        "How many {o} does {n} have left after giving {b} to {m}, if there were {a} at first?",
        "There are {a} children in the class and {b} of them are girls. The others are boys. How many boys?",
        "{n} has {a} {o}. {m} has {b}. How many more {o} does {n} have than {m}?",
        "A book has {a} pages. {n} has read {b} of them. How many pages are still to read?",
        "The bus carried {a} people until {b} got off. How many people are still on the bus?",
        "{n} pays {b} dollars for a kite from a purse with {a} dollars. How much is left in the purse?",
        "A ribbon is {a} centimetres long. {m} cuts off {b} centimetres. How long is the ribbon now?",
        "The tall tree is {a} metres high and the small tree is {b} metres high. What is the difference?",
        "{m} picked {b} plums, but {n} picked {a}. How many fewer plums did {m} pick than {n}?",
        "The shop had {a} bikes on Monday. It sold {b} of them during the week. How many bikes remain?",
        "{n} needs {a} points to win and has {b} so far. How many more points are needed?",
        "Of {a} eggs in the basket, {b} broke. How many are whole?", ("A toy costs {a} dollars. {n} has {b} "
         "dollars. How much more money does {n} need?"), ("{b} of the {a} seats are taken. How many seats "
         "are empty?"), "The trip is {a} miles long. They have gone {b} miles. How far is there still to go?",
        ("{n} baked {a} cookies. It smelled lovely in the kitchen. The family ate {b}. How many cookies are "
         "left?"), "After eating {b} grapes from a bunch of {a}, how many grapes does {n} still have?",
        "A bag of rice weighs {a} kilos. {b} kilos are used up. What does the rice in the bag weigh now?",
        "{n} and {m} have {a} {o} together. {m} has {b} of these. How many belong to {n}?",
        "Some {o} were in the jar. After {n} put in {b} more, there were {a}. How many were there at first?",
        "{a} candles were lit. The wind blew out {b}. How many candles still burn?",
        "Find how many library books are not lent out, if the library has {a} and {b} are lent out.",
        "{n} is {a} years old. How old was {n} {b} years ago?", ("The farmer has {a} cows. He sells {b} cows "
         "at the market. How many cows does he keep?"), ("{m} has {b} fewer {o} than {n}, who has {a}. How "
         "many does {m} have?"), "It rained on {b} days out of {a}. On how many days was it dry?",
        "The blue team scored {a} goals, the red team {b}. By how many goals did the blue team win?",
        "A tank had {a} litres of water. Then {b} litres leaked out. How many litres are in it now?",
        "{a} apples on the tree, {b} fall down. apples still on the tree?", ("What is left of {a} dollars "
         "when you spend {b} dollars?"), ("{n} used {b} stamps for letters. The sheet had {a} stamps. How "
         "many stamps are not used?"), ("The cake needs {a} minutes in the oven. It has been in for {b} "
         "minutes. How many minutes are left?"), ("{n} wants to collect {a} {o}. So far there are {b}. How "
         "many are missing?"), ("There were {a} tickets for the play and people bought {b}. How many tickets "
         "could still be bought?"), ("A farm has {a} hens and {b} ducks. How many more hens than ducks are "
         "there?"), "{b} balloons popped at the party. There were {a} balloons before. How many did not pop?",
        "A coat was {a} dollars. Today it is {b} dollars cheaper. How much does the coat cost today?",
        "{n} jumped {a} times and {m} jumped {b} times. How many fewer jumps did {m} make than {n}?",
    ),
    "mul": (
        "There are {a} bags with {b} {o} in each. How many {o} are there in all?",
        "{n} buys {a} pens at {b} dollars each. How much does {n} pay?", ("{a} rows, {b} chairs in every "
         "row, how many chairs?"), "How many wheels do {a} toy cars have if every toy car has {b} wheels?",
        "Each box holds {b} {o}. {n} has {a} full boxes. How many {o} is that?",
        "{n} reads {b} pages every day. How many pages does {n} read in {a} days?",
        "A garden has {a} beds, and {m} plants {b} tulips in each bed. Find the number of tulips.",
        "Tickets cost {b} dollars each. What do {a} tickets cost?", ("A bus can carry {b} people. How many "
         "people can {a} such buses carry?"), ("{n} runs {b} miles each morning. How far does {n} run in {a} "
         "mornings?"), "The farmer has {a} pens with {b} sheep in every pen. How many sheep does he have?",
        "Every player scored {b} points. There were {a} players. What was the team's total?",
        "{a} children each bring {b} {o} to school. How many {o} do they bring altogether?",
        "A brick weighs {b} kilos. How much do {a} bricks weigh?", ("{n} saves {b} dollars a week. How much "
         "money is saved after {a} weeks?"), ("The library has {a} shelves. On each shelf stand {b} books. "
         "How many books are in the library?"), ("{m} has {b} times as many {o} as {n}. {n} has {a}. How "
         "many does {m} have?"), "{a} plates, {b} cookies on each plate. all cookies?",
        "The cook uses {b} eggs for every cake. How many eggs are needed for {a} cakes?",
        "{n} glued {b} pictures on every page of an album with {a} pages. How many pictures were glued?",
        "A train has {a} cars and each car has {b} seats. How many seats does the train have?",
        "It takes {b} minutes to wash a window. How long does it take {n} to wash {a} windows, with no help?",
        "If {n} gives {b} {o} to each of {a} friends, how many {o} does {n} give away?",
        "{a} spiders sit in a web. Each spider has {b} spots. How many spots are there?",
        "It rained {b} millimetres every day for {a} days. How much rain fell in all?",
        "A packet has {b} stickers in it. {n} opens {a} packets. How many stickers come out?",
        "What is the total length of {a} ropes that are {b} metres long each?",
        "The floor has {a} rows of tiles with {b} tiles per row. How many tiles cover the floor?",
        "{n} drinks {b} cups of water a day. How many cups does {n} drink in {a} days?",
        "At the match {a} teams played. Each team had {b} players. How many players were there?",
        "{n} filled {a} jars. The sun was warm. Each jar got {b} {o}. How many {o} are in the jars?",
        "{b} candles on every table, {a} tables in the room: how many candles in the room?",
        "A hen lays {b} eggs a week. How many eggs does she lay in {a} weeks?",
        "The tower is {a} blocks tall and each block is {b} centimetres high. How high is the tower?",
        "{n} is {a} years old. Grandpa is {b} times as old. How old is Grandpa?",
        "{a} friends paid {b} dollars each for the pizza. How much did the pizza cost?", ("Some {o} were "
         "shared by {a} children, and each child got {b}. None were left. How many {o} were there?"),
        "The bakery sells {b} loaves an hour. How many loaves does it sell in {a} hours?",
        "Find how many legs {a} stools have, if each stool has {b} legs.", ("{n} did {a} laps around the "
         "field. Every lap is {b} metres. What distance is that?"),
    ),
    "div": (
        "{n} shares {a} {o} equally among {b} friends. How many does each friend get?",
        "{a} cookies, {b} plates, same on every plate, how many on each?", ("How many bags can {n} fill with "
         "{a} {o} if each bag holds {b}?"), ("{a} children line up in {b} equal rows. How many children are "
         "in a row?"), "Pens cost {b} dollars each. How many pens can {n} buy with {a} dollars?",
        "A rope of {a} metres is cut into {b} equal parts. How long is each part?",
        "A rope is {a} metres long. It is cut into pieces of {b} metres each. How many pieces are there?",
        "{n} read {a} pages in {b} days, the same number every day. How many pages a day is that?",
        "The coach puts {a} players into {b} equal teams. How many players are on each team?",
        "The coach makes teams of {b} players from {a} players. How many teams are there?",
        "{b} friends split a bill of {a} dollars equally. How much does each friend pay?",
        "{a} eggs are packed in boxes of {b}. How many boxes are filled?", ("Each table seats {b} guests. "
         "How many tables are needed to seat {a} guests with no empty seat?"),
        "The farmer put {a} hens into {b} coops, the same number in each. How many hens are in each coop?",
        "{n} saves {b} dollars a week. In how many weeks will {n} have saved {a} dollars?",
        "{b} tickets cost {a} dollars in total. They all cost the same. What is the price of a ticket?",
        "{b} equal bricks weigh {a} kilos together. Find the weight of a brick.",
        "{a} books stand on {b} shelves, with equally many on every shelf. How many books are on each shelf?",
        "{n} walked {a} miles in {b} hours at an even speed. How many miles did {n} walk each hour?",
        "The bus makes trips with {b} people each time. How many trips does it take to move {a} people?",
        "{a} {o} in groups of {b}. how many groups?", ("{n} has {a} {o}, which is {b} times as many as {m} "
         "has. How many does {m} have?"), ("A gardener plants {a} bulbs in rows of {b}. How many rows does "
         "she plant?"), "If {b} children share {a} {o} fairly, what is each child's share?",
        "Every cake takes {b} eggs. How many cakes can be baked with {a} eggs?",
        "A jug of {a} cups of juice fills {b} glasses equally. How many cups go in each glass?",
        "{m} has {b} baskets. There are {a} plums to spread evenly among them. How many plums per basket?",
        "The team scored {a} points in {b} games, the same in each game. How many points was that per game?",
        "It rained {a} millimetres over {b} days, equally on each day. How much fell each day?",
        "A book has {a} pages. {n} reads {b} pages a day. How many days does it take to finish the book?",
        ("{n} has {a} photos. The album is green. Each album page takes {b} photos. How many pages get "
         "filled?"), "{a} seats in a hall stand in {b} rows of equal length. How many seats are in each row?",
        "What does each child get when {a} dollars are shared equally by {b} children?",
        "{n} ran {a} metres by doing laps of {b} metres. How many laps did {n} run?",
        "{a} wheels were put on wagons. Every wagon got {b} wheels. How many wagons have wheels now?",
        "How long is each day's hike if {n} hikes {a} miles in {b} days, the same distance every day?",
        ("Grandma hands out all {a} of her {o} to {b} children, giving each the same. How many for each "
         "child?"), "It takes {b} minutes to paint a chair. How many chairs does {n} paint in {a} minutes?",
        "Put {a} flowers into vases, {b} flowers to a vase. How many vases do you need?",
        "{m} earned {a} dollars for {b} hours of work. How much did {m} earn per hour?",
    ),
}  # fmt: skip
