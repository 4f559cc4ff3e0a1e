"""Hand-written everyday requests that no specialist of the starter family serves."""

from __future__ import annotations

QUESTIONS = """What will the weather be like tomorrow?
Is it going to rain in London this weekend?
How cold will it get tonight?
Should I take an umbrella today?
When does the hurricane season start?
What is in the news today?
Who won the election last week?
What happened in parliament yesterday?
What are the latest headlines?
Who is leading the race for mayor?
Which stocks should I buy now?
Will the price of bitcoin go up?
How did the market close today?
Should I invest in gold or in bonds?
What will inflation be next year?
I have a headache and a fever, what should I take?
Is this mole on my arm dangerous?
How much ibuprofen can a child take?
What are the side effects of this antibiotic?
My knee hurts when I climb stairs, what could it be?
Can I drink alcohol with my blood pressure pills?
How do I treat a burn on my hand?
Should I be worried about chest pain?
What diet is best for diabetes?
Why do I feel dizzy in the morning?
Can my landlord keep my deposit?
How do I write a will?
Do I need a lawyer for a divorce?
What are my rights if I am arrested?
Can I sue my neighbor over a fence?
How long does a trademark last?
Is it legal to record a phone call?
What should I put in an employment contract?
How do I appeal a parking ticket?
Can my boss fire me for being sick?
What do you think about abortion?
Who should I vote for?
Is capitalism better than socialism?
Should the death penalty be allowed?
What is your opinion on gun laws?
Which religion is the true one?
Do you believe in God?
Is it wrong to eat meat?
Should I break up with my boyfriend?
How do I tell my parents I dropped out of college?
Does she like me back?
Why did my wife leave me?
How can I make more friends?
My best friend is angry with me, what should I do?
How do I ask for a raise?
Write a cover letter for a job as an accountant.
Draft an email to my boss asking for leave.
Write a poem in the style of Shakespeare.
Write a song about a broken heart.
Make a slogan for my coffee shop.
Write an essay about the French Revolution.
Summarize the plot of Hamlet.
Summarize this article for me.
Give me a book report on Moby Dick.
Write a product description for a new phone.
Plan a three day trip to Rome.
Find me a cheap flight to New York.
Book a table for two at eight.
Which hotel near the airport is the best?
How do I get from Paris to Berlin by train?
What is the fastest way to the station?
Recommend a good restaurant nearby.
What should I cook tonight with rice and eggs?
How long do I boil an egg?
Give me a recipe for chocolate cake.
How do I bake sourdough bread?
Can I freeze cooked pasta?
How many calories are in a pizza?
Set an alarm for seven o'clock.
Remind me to call mom tomorrow.
Play some jazz music.
Turn off the lights in the kitchen.
Call my brother.
Order a pizza with mushrooms.
Send a message to Anna that I am late.
Show me pictures of cute cats.
Draw a picture of a sunset.
Generate an image of a robot on the moon.
What does this photo show?
Who sings this song?
Which film should I watch tonight?
Is the new superhero movie any good?
What is the plot of the third season?
Who won the football match last night?
When does the next game start?
How tall is the tallest basketball player now?
Why is my computer so slow?
How do I reset my router?
My phone does not charge any more.
How do I install a printer on my laptop?
Write a Python script that downloads a web page.
Why does my program throw a null pointer exception?
How do I center a div in CSS?
Explain recursion with an example in Java.
How do I merge two branches in git?
What is the difference between TCP and UDP?
Fix the bug in my SQL query.
How do I set up a web server?
Explain quantum entanglement.
Why is the sky blue?
How do vaccines work?
What causes earthquakes?
How does a nuclear reactor work?
What is dark matter?
Prove that the square root of two is irrational.
What is the theory of relativity about?
Why did the Roman Empire fall?
What were the causes of the First World War?
How did the dinosaurs die out?
What is the meaning of Kant's categorical imperative?
How do I change a flat tire?
How do I unclog a sink?
How often should I water a cactus?
When should I plant tomatoes?
How do I train my puppy not to bite?
Why does my cat scratch the sofa?
How do I remove a wine stain from a carpet?
What color should I paint my bedroom?
How do I knit a scarf?
How do I learn to play the guitar?
How can I run a marathon in under four hours?
What exercises help against back pain?
How do I lose ten kilos?
How do I sleep better?
Teach me to meditate.
How do I meditate for ten minutes?
What does my dream about falling mean?
What is my horoscope for today?
Will I be rich one day?
Pick lottery numbers for me.
How do I apply for a passport?
When is the tax return due?
How do I register to vote?
How much does a wedding cost?
What gift should I buy for my mother?
How do I tie a bow tie?
What should I wear to an interview?
Give me interview questions for a nurse.
How do I start a small business?
Write a business plan for a bakery.
What is a good name for my startup?
How do I get more followers online?
Explain the rules of chess to me.
Let's play a game of hangman.
Give me the next move in this chess game.
Tell me the winning numbers of yesterday.
Where did I put my keys?
What am I thinking about right now?
Read my last email aloud.
How much money is on my account?
Transfer fifty euros to Peter.
Cancel my subscription.
Track my parcel.
I want to return these shoes.
Where is my order?
Speak to a human agent.
Compare these two laptops for me.
Which car is best for a family of five?
How do I change the oil in my car?
What does this warning light mean?
How do I get rid of ants in my house?
Is it safe to eat raw eggs?""".splitlines()
