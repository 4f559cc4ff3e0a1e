"""More two-step scenes for word problems, drawn by the training and fitting splits alone."""

from __future__ import annotations

MORE_TWO_STEP: dict[str, tuple[str, ...]] = {
    "a+b+c": (
        "{n} has {a} red, {b} blue and {c} green {o}. How many {o} in all?", ("{a} cats, {b} dogs, {c} "
         "rabbits, how many pets?"), ("{n} read {a} pages on Monday, {b} on Tuesday and {c} on Friday. How "
         "many pages altogether?"), ("The bus had {a} people. Then {b} got on, and later {c} more got on. "
         "How many people are on it now?"), ("A hat costs {a} dollars, a scarf {b} dollars and gloves {c} "
         "dollars. How much do they cost together?"), ("How many {o} are there if {n} has {a}, {m} has {b} "
         "and the teacher has {c}?"), ("{n} had {a} {o}. {m} gave {b} more, and Dad gave {c} more. How many "
         "does {n} have now?"), "The farm has {a} cows, {b} pigs and {c} horses. Find the number of animals.",
        "It rained {a} millimetres in May, {b} in June and {c} in July. What was the total rain?",
        ("{n} walked {a} metres, rested, walked {b} metres, rested and walked {c} metres. How far is that in "
         "total?"), ("In the vase are {a} roses, {b} tulips and {c} daisies. How many flowers are in the "
         "vase?"), "A team scored {a} points, then {b} points, then {c} points. What is its score?",
        "{n} baked {a} buns, {m} baked {b} and Grandma baked {c}. How many buns were baked?",
        "The sides of a triangle are {a}, {b} and {c} metres. How long is it all the way around?",
        "{n} gave {b} {o} to {m} and {c} to Mum, and still has {a}. How many were there to begin with?",
        "{a} tickets sold in the morning, {b} at noon, {c} at night. tickets sold that day?",
        "There were {a} books on the shelf. A boy put back {b}, a girl put back {c}. How many are there now?",
        "A box weighs {a} kilos, a bag {b} kilos and a trunk {c} kilos. How heavy are they in all?",
        ("{n} slept {a} minutes on the train, {b} on the bus and {c} in the car. How many minutes of sleep "
         "is that?"), ("{n} is {a} years old. {m} is {b} years older than {n}, and the cousin is {c} years "
         "older than {m}. How old is the cousin?"), ("The plant was {a} centimetres. It grew {b} centimetres "
         "in spring and {c} in summer. How tall is it now?"), ("What is the total of {a} dollars, {b} "
         "dollars and {c} dollars in the purses?"), ("At the party are {a} boys, {b} girls and {c} "
         "grown-ups. How many people are at the party?"), ("{n} picked {a} plums, {b} pears and {c} apples. "
         "The basket was heavy. How many fruits were picked?"), ("A pot has {a} cups of soup. The cook adds "
         "{b} cups of water and {c} cups of milk. How many cups is it now?"),
        "The library got {a} new books, {b} new maps and {c} new films. How many new things did it get?",
        "How many people visited the zoo if {a} came on Friday, {b} on Saturday and {c} on Sunday?",
        ("After {c} guests left, and then {b} more left, {a} guests stayed. How many guests were there "
         "before?"), ("{n} found {a} shells. Later {n} found {b}, and at sunset {c} more. How many shells "
         "did {n} find?"), ("There are {a} forks, {b} knives and {c} spoons in the drawer. How many things "
         "is that?"), "{n} did {a} sums at school, {b} at home and {c} on the bus. How many sums did {n} do?",
        "{a} players practise, {b} join, then {c} more join. how many practise now?",
        "A train has {a} red cars, {b} blue cars and {c} grey cars. How many cars does it have?",
        "{m} saved {a} dollars in spring, {b} in summer and {c} in autumn. How much did {m} save?",
        "Count the {o} in the jars: {a} in the tall jar, {b} in the flat jar, {c} in the old jar.",
        "{n} spent {a} dollars on food, {b} on a toy and {c} on a bus ride. How much was spent?",
        ("The path goes {a} miles to the lake, {b} miles to the hill and {c} miles to the hut. How long is "
         "the path?"), ("Mix {a} cups of flour, {b} cups of sugar and {c} cups of oats. How many cups is the "
         "mix?"), ("There were {a} frogs at the pond when {b} frogs and {c} more frogs hopped over. How many "
         "frogs are there?"), "Find how many {o} {n} has: {a} in the box, {b} in the bag, {c} in the drawer.",
    ),
    "a+b-c": (
        "{n} had {a} {o}, got {b} more and then lost {c}. How many are left?",
        "{a} birds, {b} come, {c} fly off, how many stay?", ("The bus had {a} people. {b} got on and {c} got "
         "off. How many people are on the bus now?"), ("{n} has {a} dollars and earns {b} dollars. Then {n} "
         "spends {c} dollars. How much money is left?"), ("There are {a} boys and {b} girls in the club. "
         "Today {c} of the children are ill. How many are well?"), ("How many {o} does {n} have after "
         "getting {b} and giving away {c}, if there were {a} at first?"), ("{n} baked {a} pies and {m} baked "
         "{b}. They sold {c} of the pies. How many pies remain?"), ("The library had {a} books. It bought "
         "{b} and then lent out {c}. How many books are on its shelves?"), ("A tank held {a} litres. {b} "
         "litres were poured in and {c} litres leaked out. What is in the tank now?"),
        "The farmer has {a} brown hens and {b} white hens. A fox scares off {c}. How many hens are left?",
        "{n} scored {a} points, then {b} points, but lost {c} for a foul. What is the score?",
        ("A book has {a} story pages and {b} picture pages. {n} has seen {c} of the pages. How many are "
         "still to see?"), "{a} red balloons and {b} blue balloons. {c} pop. balloons left?",
        "{m} ate {c} of the grapes. Before that, there were {a} green and {b} red grapes. How many remain?",
        ("The shop had {a} bikes. A truck brought {b} more, and people bought {c}. How many bikes does the "
         "shop have?"), ("{n} picked {a} pears in the morning and {b} after lunch. {c} were bad. How many "
         "pears were good?"), ("A rope of {a} metres is tied to a rope of {b} metres. The knot uses up {c} "
         "metres. How long is it now?"), ("Find how many cars are parked if there were {a}, then {b} came "
         "and {c} left."), ("{n} has {a} {o} and {m} has {b}. A cousin has {c}. How many more do {n} and {m} "
         "have together than the cousin?"), ("A toy costs {a} dollars and a game {b} dollars. With {c} "
         "dollars off the whole bill, what is to pay?"), ("{n} climbed {a} steps up a tower, then {b} more, "
         "then went {c} steps down. On which step is {n} now?"), ("The plant was {a} centimetres tall. It "
         "grew {b} centimetres, and then {m} cut off {c}. How tall is it now?"), ("There were {a} ducks and "
         "{b} geese on the lake. Then {c} birds went ashore. How many are on the lake?"), ("In the hall sat "
         "{a} people, and {b} more came in. At the break {c} went home. How many stayed in the hall?"),
        ("{n} must read {a} pages of a fairy tale and {b} pages of a comic, and has read {c}. How many pages "
         "are left?"), ("The team has {a} old and {b} new players, and {c} cannot play today. How many can "
         "play?"), ("{a} cups of water in a pot. Add {b} cups, take out {c} cups. How many cups are in the "
         "pot?"), ("Mum had {a} eggs. She got {b} from the hens. It was a cold day. She used {c} for a cake. "
         "How many are left?"), ("What is left when {n} puts {a} dollars with {b} dollars and pays {c} "
         "dollars for shoes?"), ("{n} wants a kite for the price of {a} coins and a ball for {b} coins but "
         "has {c} coins. How many are missing?"), ("{m} had {a} stamps. Grandpa sent {b}. Then {m} used {c}. "
         "How many stamps does {m} have?"), ("A train left with {a} people. At the next stop {c} got off "
         "while {b} got on. How many are on the train?"), ("At the shelter there are {a} kittens and {b} "
         "puppies. {c} of the pets find homes. How many pets are left?"), ("How many flowers bloom if {n} "
         "plants {a} roses and {b} lilies and {c} of the flowers do not bloom?"), ("The zoo sold {a} tickets "
         "to adults and {b} to children. {c} were handed back. How many tickets stay sold?"),
        "{n} had {a} cards and won {b}, and later gave {c} to {m}. How many cards does {n} still have?",
        "{n} and {m} bring {a} and {b} {o}. They hide {c} of them. How many are not hidden?",
        ("A bag weighs {a} kilos. {n} puts in {b} kilos of books and takes out {c} kilos of clothes. Its "
         "weight now?"), ("We set out {a} chairs, then {b} chairs more. {c} were too old and went away. How "
         "many chairs remain?"), ("There are {a} red and {b} yellow {o} in a box. If {c} are taken out, how "
         "many stay in the box?"),
    ),
    "a-b-c": (
        "{n} had {a} {o}, gave {b} to {m} and lost {c}. How many are left?", ("{a} birds, {b} fly off, then "
         "{c} more, how many stay?"), ("The bus had {a} people. {b} got off at the school and {c} at the "
         "park. How many are still on the bus?"), ("{n} has {a} dollars and buys a book for {b} dollars and "
         "a pen for {c} dollars. How much is left?"), ("A book has {a} pages. {n} read {b} on Monday and {c} "
         "on Tuesday. How many pages are left to read?"), ("How many eggs are whole if {b} broke in the "
         "shop, {c} broke at home, and there were {a} at first?"), ("There are {a} children. {b} play "
         "football and {c} swim, and the others rest. How many rest?"), ("A rope is {a} metres long. {m} "
         "cuts off {b} metres, and later {c} metres. How long is the rope now?"),
        "The shop had {a} toys. It sold {b} in the morning and {c} in the afternoon. How many are not sold?",
        ("A tank has {a} litres. {b} litres leak out, and {c} litres are used for the garden. How much stays "
         "in?"), "{n} baked {a} cookies. {m} ate {b}, and the dog ate {c}. How many cookies remain?",
        "The farmer had {a} sheep. He sold {b} and gave {c} to his son. How many sheep does he have now?",
        "Of {a} balloons, {b} popped and {c} flew away. Find how many are left.", ("The trip is {a} miles. "
         "They drove {b} miles, ate lunch, and drove {c} miles more. How far is left to go?"),
        "There are {a} flowers: {b} are red, {c} are white, the rest are yellow. How many are yellow?",
        "{a} plums in a bowl. {n} eats {b}. {m} eats {c}. plums left?", ("The library had {a} books. {b} "
         "were lent out and {c} were thrown away. How many books are there now?"), ("{n} needs {a} points to "
         "win. So far there are {b} from the run and {c} from the jump. How many are missing?"),
        ("A coat cost {a} dollars. It was made {b} dollars cheaper, then {c} dollars cheaper again. What is "
         "it now?"), ("The hall has {a} seats. Adults take {b} and children take {c}. How many seats are "
         "empty?"), ("What is left of {a} kilos of flour after using {b} kilos for bread and {c} kilos for "
         "cake?"), ("{n} and {m} took {b} and {c} {o} from a jar that held {a}. How many are still in the "
         "jar?"), ("{a} tickets. {b} sold on Friday, {c} sold on Saturday. How many tickets can still be "
         "sold?"), ("{n} has {a} {o}. {m} has {b} fewer than {n}, and a cousin has {c} fewer than {m}. How "
         "many has the cousin?"), ("A candle was {a} centimetres tall. It burned down {b} centimetres, then "
         "{c} more. How tall is it now?"), ("{n} has {a} minutes of free time. A game takes {b} minutes and "
         "a nap takes {c}. How many minutes remain?"), ("At the party were {a} guests. First {b} went home, "
         "next {c} went home. How many guests stayed?"), ("The truck carried {a} boxes. It left {b} at the "
         "bakery and {c} at the school. How many boxes are on it?"), ("In the drawer are {a} socks. {b} are "
         "blue, {c} are grey and all the others are black. How many are black?"),
        "{m} used {c} stamps today and {b} yesterday. Before that there were {a} stamps. How many are left?",
        ("The cook had {a} eggs. She used {b} for pancakes. The pan was hot. She used {c} for soup. How many "
         "are left?"), ("{a} fish in the pond. A cat catches {b} and a heron catches {c}. How many fish swim "
         "on?"), ("How much money has {n} left from {a} dollars after paying {b} for lunch and {c} for the "
         "bus?"), ("The tree had {a} apples. The wind took {b} down and {n} picked {c}. How many are on the "
         "tree?"), ("A class has {a} pupils. {b} are ill and {c} are on a trip. How many pupils are in class "
         "today?"), ("{n} had {a} cards. {n} lost {b} in a game and traded away {c} for a ball. How many "
         "cards are there now?"), ("A farm has {a} animals: {b} cows, {c} pigs, and the rest are hens. How "
         "many hens are there?"), ("{n} fills a bag with {a} nuts. {b} fall out, then {c} more fall out. "
         "Nuts still in the bag?"), ("A team had {a} players. {b} got hurt, and {c} moved away. How many "
         "players does the team have now?"), ("Take {b} {o} and then {c} {o} from a pile of {a}. How many "
         "stay in the pile?"),
    ),
    "a-b+c": (
        "{n} had {a} {o}, lost {b} and then found {c}. How many does {n} have now?",
        "{a} birds, {b} fly off, {c} come, how many now?", ("The bus had {a} people. {b} got off and {c} got "
         "on. How many people are on the bus?"), ("{n} has {a} dollars, spends {b} dollars and then earns "
         "{c} dollars. How much money is there now?"), ("The library had {a} books in. It lent out {b}, and "
         "{c} came back. How many books are in now?"), ("How many {o} does {n} have after giving away {b} "
         "and getting {c}, if there were {a} at first?"), ("A shop had {a} bikes. It sold {b} and then got "
         "{c} new bikes. How many bikes are in the shop?"), ("A tank held {a} litres. {b} litres were used, "
         "and then rain added {c} litres. What is in the tank now?"), ("{n} baked {a} buns. The children ate "
         "{b}, so {m} baked {c} more. How many buns are there?"), ("The farmer had {a} hens, sold {b} of "
         "them and bought {c} chicks. How many birds does he have now?"), ("{n} had {a} points, lost {b} in "
         "a bad round and won {c} in a good round. Find the score."), ("There were {a} cars parked. {b} "
         "drove away, then {c} drove in. How many cars are parked now?"), ("{a} eggs in the fridge. use {b}. "
         "buy {c}. eggs in the fridge?"), ("A class of {a} pupils: {b} move away and {c} new pupils come. "
         "How many pupils are in the class?"), ("The plant was {a} centimetres. {m} cut off {b}, and then it "
         "grew {c}. How tall is it?"), ("{m} ate {b} of the {a} grapes, and then Mum added {c} more to the "
         "bowl. How many grapes are in the bowl?"), ("What is the price of a coat that was {a} dollars, went "
         "down by {b} dollars and then up by {c} dollars?"), ("The pond had {a} ducks. {b} ducks left. In "
         "the evening {c} ducks came. How many are on the pond?"), ("In the hall were {a} people. {b} went "
         "home early, but {c} came late. How many are in the hall now?"), ("{n} used {b} stamps out of {a}. "
         "Then Grandpa sent {c} more. How many stamps does {n} have?"), ("The team had {a} players. Then {b} "
         "left it and {c} joined it. How many players does the team have?"), ("A rope of {a} metres loses "
         "{b} metres, and a piece of {c} metres is tied on. How long is it, knots aside?"), ("{n} has {a} "
         "{o}. {m} has {b} fewer than {n}, and a cousin has {c} more than {m}. How many has the cousin?"),
        "A bag weighs {a} kilos. {n} takes out {b} kilos and puts in {c} kilos. How heavy is the bag now?",
        "At dawn it was {a} degrees. It got {b} degrees colder and then {c} degrees warmer. What is it now?",
        "{a} cups in the pot. {n} pours out {b} cups and adds {c}. How many cups are in the pot?",
        ("The train left with {a} people. At the stop {c} got on after {b} got off. How many are on the "
         "train?"), ("{n} had {a} cards. It was raining. {n} gave {b} to {m} and won {c} in a game. How many "
         "cards now?"), ("There were {a} tickets. {b} were sold, and then {c} new tickets were printed. How "
         "many are for sale now?"), ("Of {a} candles {b} burned down. Dad brought {c} new candles. How many "
         "can still be lit?"), ("How many chairs are in the room if there were {a}, {b} were carried out and "
         "{c} were carried in?"), ("The lift went up with {a} people. {b} stepped out, {c} stepped in. how "
         "many people inside?"), ("A garden had {a} flowers. The goat ate {b}. {m} planted {c} more. How "
         "many flowers are in the garden?"), ("The boat had {a} fish on board. {b} jumped out, and the men "
         "caught {c} more. How many fish are there?"), ("{n} was on step {a} of the stairs, went down {b} "
         "steps and then up {c}. Which step is {n} on?"), ("Find how many balloons there are when {b} of {a} "
         "pop and {n} blows up {c} new balloons."), ("There were {a} plates on the shelf. {m} took {b} for "
         "lunch and later put {c} back. Plates on the shelf?"), ("The jar had {a} {o}. {n} took {b}. {m} put "
         "in {c}. How many are in the jar?"), ("A truck carried {a} boxes, left {b} at a shop and picked up "
         "{c} at a farm. How many boxes does it carry?"), ("{n} got {c} dollars from Grandma after paying "
         "{b} of {a} dollars for shoes. How much does {n} have?"),
    ),
    "a*b+c": (
        "{n} has {a} bags with {b} {o} in each, and {c} more {o} on the desk. How many in all?",
        "{a} rows of {b} chairs and {c} extra chairs, how many chairs?", ("{n} buys {a} pens at {b} dollars "
         "each and a bag for {c} dollars. How much does {n} pay?"), ("How many eggs are there in {a} boxes "
         "of {b}, with {c} loose eggs besides?"), ("{n} reads {b} pages a day for {a} days, and then {c} "
         "pages more. How many pages is that?"), ("A table seats {b}. There are {a} full tables, and {c} "
         "people stand. How many people are there?"), ("{n} had {c} dollars and then saved {b} dollars a "
         "week for {a} weeks. How much money is there now?"), ("{a} buses carried {b} children each, and {c} "
         "children came by car. How many children came?"), ("The farmer has {a} pens of {b} sheep each. {c} "
         "sheep are in the field. How many sheep has he?"), ("{n} scored {b} points in each of {a} games and "
         "{c} points in the last game. Find the total."), ("{n} shared {o} so that {a} friends got {b} each, "
         "and {c} were left over. How many were there at first?"), ("A shelf has {a} rows of {b} books. {c} "
         "more lie on the floor. How many books are there?"), ("{n} runs {b} miles on each of {a} days and "
         "then walks {c} miles. What distance is it in all?"), ("Tickets are {b} dollars each and the ride "
         "is {c} dollars. What do {a} tickets and the ride cost together?"), ("{a} plates with {b} buns "
         "each, {c} buns in the oven. buns in total?"), ("The train has {a} cars with {b} seats in each and "
         "{c} seats in the front part. How many seats are there?"), ("A box weighs {c} kilos empty. {n} puts "
         "in {a} bricks of {b} kilos each. How heavy is the full box?"), ("{m} has {c} more {o} than {a} "
         "bags of {b}. How many {o} does {m} have?"), ("{n} planted {a} beds of {b} tulips and also {c} "
         "roses. How many flowers did {n} plant?"), ("Each child gets {b} {o} and the teacher gets {c}. "
         "There are {a} children. How many {o} are needed?"), ("{n} has {a} {o}. {m} has {b} times as many, "
         "and {c} more on top. How many does {m} have?"), ("A cake takes {b} eggs. {n} bakes {a} cakes and "
         "then boils {c} eggs. How many eggs are used?"), ("The tank had {c} litres. {a} buckets of {b} "
         "litres were poured in. How many litres are in it now?"), ("What is the length of {a} ropes of {b} "
         "metres and another rope of {c} metres, all laid in a line?"), ("It rained {b} millimetres a day "
         "for {a} days, and then {c} millimetres in a storm. How much rain fell?"),
        "The album has {a} full pages of {b} photos and a last page with {c}. How many photos are in it?",
        "{a} teams of {b} players, {c} players on the bench. How many players came?", ("{n} filled {a} jars "
         "with {b} {o} each. The jars were shiny. {c} {o} did not fit. How many {o} were there?"),
        "A taxi costs {c} dollars to start and {b} dollars for each mile. How much is a ride of {a} miles?",
        "{n} washed {a} windows in {b} minutes each, then rested {c} minutes. How many minutes passed?",
        ("The hens laid {b} eggs a day for {a} days. {m} already had {c} eggs. How many eggs does {m} have "
         "now?"), ("Find how many wheels there are on {a} carts with {b} wheels each, if {c} spare wheels "
         "are counted too."), ("The plant was {c} centimetres and grew {b} centimetres a week for {a} weeks. "
         "How tall is it now?"), ("In the hall are {a} benches with {b} people on each, plus {c} people on "
         "stools. How many sit in the hall?"), ("{a} packs of {b} cards, {c} cards found under the bed. How "
         "many cards altogether?"), ("{n} earns {b} dollars an hour. After {a} hours, {m} gives {n} {c} "
         "dollars extra. How much does {n} get?"), ("The bakery made {a} trays of {b} rolls and {c} loaves. "
         "How many things did it bake?"), ("{n} drank {b} cups of water a day for {a} days and then {c} cups "
         "on Sunday. How many cups is that?"), ("To build the wall they used {a} rows of {b} stones and {c} "
         "stones for the top. How many stones?"), ("How much do {a} apples at {b} coins each and a melon at "
         "{c} coins cost altogether?"),
    ),
    "a*b-c": (
        "{n} has {a} bags with {b} {o} in each, and gives away {c}. How many are left?",
        "{a} rows of {b} chairs, {c} chairs break, how many are fine?", ("{n} buys {a} pens at {b} dollars "
         "each and gets {c} dollars off the bill. How much does {n} pay?"), ("How many eggs are whole in {a} "
         "boxes of {b} eggs, if {c} are broken in all?"), ("{n} saved {b} dollars a week for {a} weeks, then "
         "spent {c} dollars. How much is left?"), ("{a} buses have {b} seats each. {c} of all the seats are "
         "empty. How many seats are taken?"), ("The farmer had {a} pens with {b} sheep in each. He sold {c} "
         "sheep. How many sheep remain?"), ("{n} baked {a} trays of {b} cookies. The family ate {c}. How "
         "many cookies are left?"), ("A library has {a} shelves of {b} books, and {c} of the books are lent "
         "out. How many are in?"), ("{n} reads {b} pages a day. After {a} days {n} is {c} pages ahead of "
         "{m}. How many pages has {m} read?"), ("{a} vases, {b} flowers each. {c} flowers wilt. flowers "
         "still fresh?"), ("{n} scored {b} points in each of {a} rounds and then lost {c} points. What is "
         "the score?"), ("The hall has {a} rows with {b} seats. If {c} people sit down, how many seats stay "
         "empty?"), ("{m} opened {a} packs of {b} stickers and used {c} stickers. How many stickers are not "
         "used?"), "{n} has {a} {o}. {m} has {b} times as many, less {c}. How many does {m} have?",
        "A rope is made of {a} pieces of {b} metres. Then {c} metres are cut off. How long is it now?",
        "The team sold {a} books of {b} tickets, and {c} tickets were handed back. How many stayed sold?",
        "A tank got {a} buckets of {b} litres each. {c} litres leaked out. How many litres are in the tank?",
        "Each of {a} children brings {b} {o}. {c} get lost. How many {o} are left?",
        "A party needs {b} cups at each of {a} tables. {n} has {c} cups. How many more cups are needed?",
        "{n} earned {b} dollars an hour for {a} hours and paid {c} dollars for the bus. Find what is left.",
        "What is left of {a} crates of {b} pears after {c} pears are eaten?",
        "The garden has {a} beds of {b} tulips. Rabbits ate {c} of them. How many tulips are still there?",
        "How many more {o} are in {a} boxes of {b} than in a bag of {c}?", ("The train has {a} cars, {b} "
         "seats in each. {c} seats are being fixed. How many seats can be used?"),
        "{n} wants {a} toys that cost {b} dollars each but has {c} dollars. How much money is missing?",
        "A hen lays {b} eggs a week. In {a} weeks {c} of her eggs broke. How many did not break?",
        "{n} ran {a} laps of {b} metres. {m} ran {c} metres less than {n}. How far did {m} run?",
        "There were {a} teams of {b} players. It was windy. {c} players went home. How many players stayed?",
        "{a} tables with {b} guests each. At dusk {c} guests leave. How many guests stay?",
        "From {a} sacks of {b} kilos of flour the baker used {c} kilos. How much flour is left?",
        "{n} stacked {a} rows of {b} blocks, and {c} fell down. How many blocks are still stacked?",
        "The album has {a} pages for {b} photos each. {n} has put in {c} photos. How many more will fit?",
        "{m} took {c} {o} from a shelf with {a} jars of {b} {o}. How many {o} are on the shelf now?",
        "The trip is {a} days of {b} miles each. They have gone {c} miles. How many miles are left?",
        "Boats take {b} people each. {a} boats are full, and {c} of the people get out. How many stay in?",
        "A plate holds {b} buns. There were {a} full plates before {n} took {c} buns. How many buns remain?",
        "{a} packets, {b} seeds in each, {c} do not grow. How many seeds grow?", ("{n} planned {b} minutes "
         "of practice on each of {a} days but missed {c} minutes. How long was practised?"),
        "There are {a} floors with {b} lamps on each. Dad turned off {c} lamps. How many lamps are still on?",
    ),
    "a-b*c": (
        "{n} has {a} dollars and buys {b} pens at {c} dollars each. How much is left?",
        "{a} {o}, {b} friends take {c} each, how many stay?", ("How many {o} are left from {a}, after {n} "
         "gives {c} to each of {b} friends?"), ("A book has {a} pages. {n} reads {c} pages a day for {b} "
         "days. How many pages are still to read?"), ("There were {a} eggs. {n} baked {b} cakes with {c} "
         "eggs in each. How many eggs are left?"), ("A rope is {a} metres long. {m} cuts off {b} pieces of "
         "{c} metres. How long is what remains?"), ("The hall has {a} seats. {b} groups of {c} people sit "
         "down. How many seats are empty?"), ("{b} vans took {c} children each, and the rest of the {a} "
         "children walked. How many walked?"), ("A tank has {a} litres. {n} takes out {b} buckets of {c} "
         "litres. How much water is left in the tank?"), ("The farmer had {a} hens and sold {b} crates with "
         "{c} hens in each. How many hens does he still have?"), ("The shop had {a} buns. {b} people bought "
         "{c} buns each. How many buns are not sold?"), ("{n} had {a} dollars. For {b} days {n} spent {c} "
         "dollars a day. How much money is left?"), ("{n} pays with {a} dollars for {b} tickets at {c} "
         "dollars each. What is the change?"), ("Of {a} flowers, {n} made {b} bunches of {c}. How many "
         "flowers are left over?"), ("The trip is {a} miles. They hike {c} miles on each of {b} days. How "
         "many miles are left?"), "{a} stickers. {b} pages get {c} stickers each. stickers left?",
        "{n} needs {a} points. {b} games with {c} points each are done. How many more points are needed?",
        ("There are {a} books. {b} shelves hold {c} each, and the others are in a box. How many are in the "
         "box?"), ("A bag of {a} kilos of rice is used for {b} meals of {c} kilos each. How much rice "
         "remains?"), ("The coach has {a} players and makes {b} teams of {c}. How many players are not on a "
         "team?"), ("{m} used {c} stamps on each of {b} letters. Before that, {m} had {a} stamps. How many "
         "are left?"), ("A candle is {a} centimetres tall. It burns down {c} centimetres an hour. How tall "
         "is it after {b} hours?"), ("{n} has {a} nuts. The squirrel is hungry. {n} feeds it {c} nuts a day "
         "for {b} days. How many nuts are left?"), ("How many plums are on the tree if there were {a} and "
         "{b} children picked {c} each?"), ("A toy costs {a} dollars. {n} has saved {c} dollars in each of "
         "{b} weeks. How much is missing?"), ("The bus had {a} people. At each of {b} stops {c} people got "
         "off, and nobody got on. How many are still on?"), ("{a} chairs, {b} rows of {c} are set up, the "
         "rest stay stacked. How many stay stacked?"), ("A bowl has {a} spoons of sugar. {b} cups of tea get "
         "{c} spoons each. Find how many spoons are left."), ("In a box are {a} cards. {b} players are dealt "
         "{c} cards each. How many cards stay in the box?"), ("{n} owes {m} {a} dollars and pays back {c} "
         "dollars a week. How much is still owed after {b} weeks?"), ("The class has {a} sheets of paper. "
         "{b} pupils use {c} sheets each. How many sheets are left?"), ("A wall needs {a} bricks. {b} rows "
         "of {c} bricks are done. How many more bricks are needed?"), ("{n} had {a} balloons and tied {c} to "
         "each of {b} gates. How many balloons does {n} still hold?"), ("Dad has {a} nails. He mends {b} "
         "chairs with {c} nails for each chair. How many nails does he have left?"),
        "{n} has {a} {o}. {m} has {b} bags of {c}. How many more {o} does {n} have than {m}?",
        ("The library had {a} books in, and {b} children borrowed {c} books each. How many books are still "
         "in?"), ("There is a show of {a} minutes. {b} songs of {c} minutes are over. How many minutes are "
         "left?"), ("A truck with {a} boxes stops at {b} shops and leaves {c} boxes at each. How many boxes "
         "are on it now?"), ("What is left of {a} metres of cloth when {n} sews {b} shirts from {c} metres "
         "each?"), ("{a} apples were picked. {b} baskets were filled with {c} apples each and sold. How many "
         "were not sold?"),
    ),
    "(a+b)/c": (
        "{n} has {a} red and {b} blue {o} and shares them equally among {c} friends. How many does each get?",
        "{a} boys and {b} girls make {c} equal teams. how many on each team?",
        "{n} has {a} {o} and finds {b} more. All go into {c} boxes equally. How many are in each box?",
        "How many bags of {c} can {n} fill with {a} apples and {b} pears mixed together?", ("{n} and {m} put "
         "{a} and {b} dollars together to buy balls at {c} dollars each. How many balls can they buy?"),
        ("The farmer puts {a} white hens and {b} brown hens evenly into {c} coops. How many hens are in a "
         "coop?"), ("{n} picked {a} plums and {m} picked {b}. They packed all of them in boxes of {c}. How "
         "many boxes?"), ("A class of {a} and a class of {b} go by bus. Each bus takes {c} children and all "
         "are full. How many buses?"), ("A rope of {a} metres is joined to a rope of {b} metres and cut into "
         "{c} equal parts. How long is a part?"), ("A pizza for {a} dollars and juice for {b} dollars are "
         "paid for equally by {c} friends. How much for each?"), ("{n} must read {a} pages for school and "
         "{b} for fun in {c} days, the same every day. How many pages a day?"), ("{c} children share {a} "
         "cookies and {b} muffins so that all get as many treats. How many treats for each?"),
        ("The library gets {a} old books and {b} new books for {c} shelves, equally many on each. Books per "
         "shelf?"), ("{m} had {a} stamps and got {b} more. {c} stamps fit on a page. How many pages do they "
         "fill?"), ("Put {a} roses and {b} lilies into {c} vases, the same number in each. How many flowers "
         "are in each vase?"), ("{n} ran {a} metres and then {b} metres, in laps of {c} metres. How many "
         "laps was that?"), ("{n} earned {a} dollars on Friday and {b} on Sunday for {c} hours of work. How "
         "much was it per hour?"), ("The team got {a} points at home and {b} points away in {c} games, the "
         "same each game. Points per game?"), ("{a} adults and {b} children sit at tables of {c}, with no "
         "empty seat. How many tables are there?"), ("A jug with {a} cups and a jug with {b} cups are poured "
         "evenly into {c} bottles. How many cups in each?"), ("Find each child's share if {c} children split "
         "{a} coins and {b} more coins equally."), ("The baker made {a} rolls in the morning and {b} at "
         "noon. Each bag takes {c} rolls. How many bags are filled?"), ("Tents sleep {c}. How many tents do "
         "{a} scouts and {b} leaders need, if every tent is full?"), ("There were {a} people and then {b} "
         "came. They lined up in {c} equal rows. How many were in each row?"), ("{n} saved {a} dollars and "
         "got {b} from Grandpa. Tickets cost {c} dollars. How many tickets can {n} buy?"),
        "How many {o} for each of {c} friends, if {n} brings {a}, {m} brings {b}, and all are shared fairly?",
        "{a} ducks, {b} geese, {c} ponds, as many birds on each pond. How many birds on a pond?",
        ("Dad has {a} short nails and {b} long nails. A chair takes {c} nails of any kind. How many chairs "
         "can he mend?"), ("{n} spent {a} dollars and {m} spent {b} dollars, all on kites at {c} dollars "
         "each. How many kites is that?"), ("Mum bought {a} eggs. The hens laid {b}. A cake takes {c} eggs. "
         "How many cakes can she bake?"), ("It took {a} minutes in the morning and {b} minutes at night to "
         "paint {c} chairs. How many minutes per chair?"), ("{n} walked {a} miles to the lake and {b} miles "
         "on, over {c} equal days. How many miles a day?"), ("The red bin has {a} blocks and the blue bin "
         "{b}. All are made into towers of {c}. How many towers?"), ("{n} has {a} dog pictures and {b} cat "
         "pictures. Each page holds {c}. The album is new. How many pages fill up?"), ("A truck with {a} "
         "boxes picks up {b} more. It leaves them all at {c} shops, equally. How many at each shop?"),
        "{a} pens and {b} pencils go in {c} cups, the same number in each cup. How many things are in a cup?",
        ("Grandma has {a} {o}, and Grandpa has {b}. They give them all to {c} children equally. Each child "
         "gets what?"), ("{n} mixes {a} nuts with {b} raisins and makes piles of {c} pieces. How many piles "
         "are there?"), ("The choir has {a} old and {b} new singers. They stand in rows of {c}. How many "
         "rows are there?"), ("How much does each of {c} friends pay for a boat at {a} dollars and lunch at "
         "{b} dollars, split equally?"),
    ),
    "(a-b)/c": (
        "{n} has {a} {o}, keeps {b} and shares the rest equally among {c} friends. How many does each get?",
        "{a} eggs, {b} break, the rest go in boxes of {c}. how many boxes?", ("{n} has {a} dollars and "
         "spends {b}. The rest goes on pens at {c} dollars each. How many pens?"),
        "A book has {a} pages. {n} has read {b} and reads the rest in {c} equal days. How many pages a day?",
        "How many bags of {c} can {n} fill from {a} apples after {b} bad apples are thrown out?",
        ("There are {a} children, and {b} are ill. The others make {c} equal teams. How many are on each "
         "team?"), ("A rope is {a} metres. {b} metres are cut off, and the rest is cut into {c} equal parts. "
         "How long is a part?"), ("A bill of {a} dollars is made {b} dollars cheaper and split equally by "
         "{c} friends. How much does each pay?"), ("The farmer had {a} sheep and sold {b}. The rest live in "
         "{c} pens, equally many. How many sheep in a pen?"), ("{n} baked {a} buns. {m} ate {b}. The others "
         "go on {c} plates, the same on each. How many on a plate?"), ("{n} wants a toy for {a} dollars and "
         "has {b}. Saving {c} dollars a week, how many weeks will it take?"),
        "Of {a} people, {b} walk. The rest go in cars with {c} in each. How many cars are needed?",
        ("The trip is {a} miles, and {b} are done. The rest takes {c} days of equal length. How many miles a "
         "day?"), ("A tank has {a} litres. {b} leak out. The rest fills {c} buckets equally. How many litres "
         "in each bucket?"), ("{a} flowers, {b} wilt, the rest stand in {c} vases equally. How many flowers "
         "in each vase?"), ("The library lent {b} of its {a} books. Those left stand on {c} shelves, the "
         "same on each. Books per shelf?"), ("{m} took {b} {o} from a pile of {a}, and {c} friends shared "
         "what was left equally. How many for each?"), ("A box of {c} equal bricks weighs {a} kilos. The "
         "empty box weighs {b} kilos. How heavy is each brick?"), ("{n} paid {a} dollars for a bag at {b} "
         "dollars and {c} equal pens. How much was a pen?"), ("Find how many rows of {c} chairs can be made "
         "from {a} chairs when {b} are broken."), ("A class has {a} sheets of paper and uses {b}. {c} pupils "
         "share the rest equally. How many sheets for each?"), ("The coach has {a} players, but {b} went "
         "home. Groups of {c} are made of the rest. How many groups?"), ("After {b} of {a} balloons popped, "
         "{c} children got the same number each, and none were left. How many each?"), ("{n} has {a} stamps "
         "and uses {b}. The rest go in an album, {c} on each page. How many pages get filled?"),
        "What is each child's share if {n} eats {b} of {a} grapes and {c} children split the others fairly?",
        ("The team has {a} points. {b} came as a gift, and the rest came from {c} equal games. Points per "
         "game?"), ("{a} seats: {b} in the front, the rest in {c} equal rows. How many seats in each of "
         "those rows?"), ("A candle of {a} centimetres has burned down {b}. It burns {c} centimetres an "
         "hour. Hours until it is gone?"), ("The cook had {a} eggs. The day was hot. She boiled {b}. Each "
         "cake takes {c} eggs. How many cakes can the rest make?"), ("How many tables of {c} are filled if "
         "{a} guests were asked, {b} stayed away and all the rest sit down?"), ("{n} has {a} minutes. Lunch "
         "takes {b}. The rest is for {c} games of equal length. How long is a game?"), ("A truck with {a} "
         "boxes drops {b} at a farm and the rest at {c} shops, equally. How many boxes per shop?"),
        "{n} had {a} cards, lost {b} and put the rest in {c} equal piles. How many cards are in a pile?",
        ("Dad has {a} nails. {b} are bent. He mends chairs with {c} good nails each. How many chairs can he "
         "mend?"), ("{a} pears were picked, {b} were eaten, and the rest fill baskets of {c}. How many "
         "baskets is that?"), ("{n} has {a} {o}. {m} has {b} fewer than that, in {c} equal bags. How many "
         "{o} are in each bag?"), ("A plant is {a} centimetres now and was {b} at the start, {c} weeks ago. "
         "How much did it grow each week?"), ("From {a} kilos of flour {b} are sold. The rest goes into bags "
         "of {c} kilos. How many bags are there?"), ("{n} earned {a} dollars: {b} as a tip, and the rest for "
         "{c} hours at equal pay. What is the pay per hour?"), ("The bus had {a} people. {b} got off at "
         "school. The rest got off at {c} stops, equally many. How many at each?"),
    ),
}  # fmt: skip
