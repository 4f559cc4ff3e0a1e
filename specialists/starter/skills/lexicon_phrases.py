"""Set phrases and closed word lists, which are learned by heart: ``English|French|Spanish|German``."""

PHRASES = """
Hello!|Bonjour !|¡Hola!|Hallo!
Good morning!|Bonjour !|¡Buenos días!|Guten Morgen!
Good afternoon!|Bonjour !|¡Buenas tardes!|Guten Tag!
Good evening!|Bonsoir !|¡Buenas tardes!|Guten Abend!
Good night!|Bonne nuit !|¡Buenas noches!|Gute Nacht!
Goodbye!|Au revoir !|¡Adiós!|Auf Wiedersehen!
See you tomorrow!|À demain !|¡Hasta mañana!|Bis morgen!
See you soon!|À bientôt !|¡Hasta pronto!|Bis bald!
Thank you!|Merci !|¡Gracias!|Danke!
Thank you very much!|Merci beaucoup !|¡Muchas gracias!|Vielen Dank!
You're welcome!|De rien !|¡De nada!|Gern geschehen!
Welcome!|Bienvenue !|¡Bienvenido!|Willkommen!
Congratulations!|Félicitations !|¡Felicidades!|Herzlichen Glückwunsch!
Happy birthday!|Joyeux anniversaire !|¡Feliz cumpleaños!|Alles Gute zum Geburtstag!
Merry Christmas!|Joyeux Noël !|¡Feliz Navidad!|Frohe Weihnachten!
Happy New Year!|Bonne année !|¡Feliz año nuevo!|Frohes neues Jahr!
Good luck!|Bonne chance !|¡Buena suerte!|Viel Glück!
Enjoy your meal!|Bon appétit !|¡Buen provecho!|Guten Appetit!
Cheers!|Santé !|¡Salud!|Prost!
Have a good trip!|Bon voyage !|¡Buen viaje!|Gute Reise!
Get well soon!|Bon rétablissement !|¡Que te mejores!|Gute Besserung!
How are you?|Comment vas-tu ?|¿Cómo estás?|Wie geht es dir?
I am fine, thank you.|Je vais bien, merci.|Estoy bien, gracias.|Mir geht es gut, danke.
What is your name?|Comment t'appelles-tu ?|¿Cómo te llamas?|Wie heißt du?
Nice to meet you.|Enchanté.|Mucho gusto.|Freut mich.
How old are you?|Quel âge as-tu ?|¿Cuántos años tienes?|Wie alt bist du?
Where do you live?|Où habites-tu ?|¿Dónde vives?|Wo wohnst du?
Where are you from?|D'où viens-tu ?|¿De dónde eres?|Woher kommst du?
What time is it?|Quelle heure est-il ?|¿Qué hora es?|Wie spät ist es?
What is this?|Qu'est-ce que c'est ?|¿Qué es esto?|Was ist das?
Who is that?|Qui est-ce ?|¿Quién es?|Wer ist das?
I don't know.|Je ne sais pas.|No lo sé.|Ich weiß es nicht.
I don't understand.|Je ne comprends pas.|No entiendo.|Ich verstehe nicht.
I am sorry.|Je suis désolé.|Lo siento.|Es tut mir leid.
Excuse me!|Excusez-moi !|¡Perdón!|Entschuldigung!
I love you.|Je t'aime.|Te quiero.|Ich liebe dich.
I miss you.|Tu me manques.|Te echo de menos.|Ich vermisse dich.
Can you help me?|Peux-tu m'aider ?|¿Puedes ayudarme?|Kannst du mir helfen?
Help!|Au secours !|¡Socorro!|Hilfe!
Be careful!|Fais attention !|¡Ten cuidado!|Sei vorsichtig!
Of course!|Bien sûr !|¡Claro!|Natürlich!
No problem.|Pas de problème.|No hay problema.|Kein Problem.
Yes, please.|Oui, s'il vous plaît.|Sí, por favor.|Ja, bitte.
No, thank you.|Non, merci.|No, gracias.|Nein, danke.
Come here!|Viens ici !|¡Ven aquí!|Komm her!
Wait a moment!|Attends un moment !|¡Espera un momento!|Warte einen Moment!
It rains.|Il pleut.|Llueve.|Es regnet.
It snows.|Il neige.|Nieva.|Es schneit.
It is cold.|Il fait froid.|Hace frío.|Es ist kalt.
It is hot.|Il fait chaud.|Hace calor.|Es ist heiß.
It is windy.|Il y a du vent.|Hace viento.|Es ist windig.
It is sunny.|Il y a du soleil.|Hace sol.|Es ist sonnig.
The weather is nice.|Il fait beau.|Hace buen tiempo.|Das Wetter ist schön.
The weather is bad.|Il fait mauvais.|Hace mal tiempo.|Das Wetter ist schlecht.
How is the weather?|Quel temps fait-il ?|¿Qué tiempo hace?|Wie ist das Wetter?
It is late.|Il est tard.|Es tarde.|Es ist spät.
It is early.|Il est tôt.|Es temprano.|Es ist früh.
It is important.|C'est important.|Es importante.|Es ist wichtig.
It is not true.|Ce n'est pas vrai.|No es verdad.|Es ist nicht wahr.
The bill, please.|L'addition, s'il vous plaît.|La cuenta, por favor.|Die Rechnung, bitte.
I am lost.|Je suis perdu.|Estoy perdido.|Ich habe mich verlaufen.
What are you doing?|Que fais-tu ?|¿Qué haces?|Was machst du?
What does this mean?|Qu'est-ce que ça veut dire ?|¿Qué significa esto?|Was bedeutet das?
I need help.|J'ai besoin d'aide.|Necesito ayuda.|Ich brauche Hilfe.
Sleep well!|Dors bien !|¡Que duermas bien!|Schlaf gut!
Let's go!|Allons-y !|¡Vamos!|Los geht's!
"""

WORDS = """
I|je|yo|ich
you|tu|tú|du
he|il|él|er
she|elle|ella|sie
we|nous|nosotros|wir
they|ils|ellos|sie
my|mon|mi|mein
your|ton|tu|dein
our|notre|nuestro|unser
yes|oui|sí|ja
no|non|no|nein
please|s'il vous plaît|por favor|bitte
and|et|y|und
or|ou|o|oder
but|mais|pero|aber
because|parce que|porque|weil
with|avec|con|mit
without|sans|sin|ohne
for|pour|para|für
very|très|muy|sehr
too|trop|demasiado|zu
today|aujourd'hui|hoy|heute
yesterday|hier|ayer|gestern
tomorrow|demain|mañana|morgen
now|maintenant|ahora|jetzt
always|toujours|siempre|immer
often|souvent|a menudo|oft
sometimes|parfois|a veces|manchmal
never|jamais|nunca|nie
here|ici|aquí|hier
there|là|allí|dort
soon|bientôt|pronto|bald
who|qui|quién|wer
what|que|qué|was
where|où|dónde|wo
when|quand|cuándo|wann
why|pourquoi|por qué|warum
how|comment|cómo|wie
Monday|lundi|lunes|Montag
Tuesday|mardi|martes|Dienstag
Wednesday|mercredi|miércoles|Mittwoch
Thursday|jeudi|jueves|Donnerstag
Friday|vendredi|viernes|Freitag
Saturday|samedi|sábado|Samstag
Sunday|dimanche|domingo|Sonntag
January|janvier|enero|Januar
February|février|febrero|Februar
March|mars|marzo|März
April|avril|abril|April
May|mai|mayo|Mai
June|juin|junio|Juni
July|juillet|julio|Juli
August|août|agosto|August
September|septembre|septiembre|September
October|octobre|octubre|Oktober
November|novembre|noviembre|November
December|décembre|diciembre|Dezember
spring|printemps|primavera|Frühling
summer|été|verano|Sommer
autumn|automne|otoño|Herbst
winter|hiver|invierno|Winter
day|jour|día|Tag
night|nuit|noche|Nacht
week|semaine|semana|Woche
month|mois|mes|Monat
year|année|año|Jahr
hour|heure|hora|Stunde
minute|minute|minuto|Minute
morning|matin|mañana|Morgen
evening|soir|tarde|Abend
time|temps|tiempo|Zeit
money|argent|dinero|Geld
people|gens|gente|Leute
parents|parents|padres|Eltern
family|famille|familia|Familie
trousers|pantalon|pantalones|Hose
scissors|ciseaux|tijeras|Schere
hair|cheveux|pelo|Haare
face|visage|cara|Gesicht
skin|peau|piel|Haut
blood|sang|sangre|Blut
sun|soleil|sol|Sonne
rain|pluie|lluvia|Regen
snow|neige|nieve|Schnee
wind|vent|viento|Wind
sky|ciel|cielo|Himmel
sea|mer|mar|Meer
earth|terre|tierra|Erde
fire|feu|fuego|Feuer
air|air|aire|Luft
world|monde|mundo|Welt
country|pays|país|Land
life|vie|vida|Leben
death|mort|muerte|Tod
love|amour|amor|Liebe
music|musique|música|Musik
breakfast|petit-déjeuner|desayuno|Frühstück
lunch|déjeuner|almuerzo|Mittagessen
dinner|dîner|cena|Abendessen
holiday|vacances|vacaciones|Urlaub
peace|paix|paz|Frieden
war|guerre|guerra|Krieg
work|travail|trabajo|Arbeit
sheep|mouton|oveja|Schaf
vegetables|légumes|verduras|Gemüse
grass|herbe|hierba|Gras
paper|papier|papel|Papier
wood|bois|madera|Holz
gold|or|oro|Gold
colour|couleur|color|Farbe
number|nombre|número|Zahl
name|nom|nombre|Name
birthday|anniversaire|cumpleaños|Geburtstag
wall|mur|pared|Wand
floor|sol|suelo|Boden
roof|toit|tejado|Dach
stairs|escalier|escalera|Treppe
room|pièce|habitación|Zimmer
health|santé|salud|Gesundheit
truth|vérité|verdad|Wahrheit
to be|être|ser|sein
to make|faire|hacer|machen
to say|dire|decir|sagen
to give|donner|dar|geben
to need|avoir besoin de|necesitar|brauchen
to begin|commencer|empezar|anfangen
to stop|arrêter|parar|aufhören
to stay|rester|quedarse|bleiben
to fall|tomber|caer|fallen
to ask|demander|preguntar|fragen
to show|montrer|mostrar|zeigen
to put|mettre|poner|legen
to believe|croire|creer|glauben
to die|mourir|morir|sterben
to sit|s'asseoir|sentarse|sitzen
to get up|se lever|levantarse|aufstehen
to explain|expliquer|explicar|erklären
to count|compter|contar|zählen
more|plus|más|mehr
less|moins|menos|weniger
everything|tout|todo|alles
nothing|rien|nada|nichts
somebody|quelqu'un|alguien|jemand
nobody|personne|nadie|niemand
to the left|à gauche|a la izquierda|links
to the right|à droite|a la derecha|rechts
inside|dedans|dentro|drinnen
outside|dehors|fuera|draußen
perhaps|peut-être|quizás|vielleicht
together|ensemble|juntos|zusammen
again|encore|otra vez|wieder
already|déjà|ya|schon
early|tôt|temprano|früh
late|tard|tarde|spät
first|premier|primero|erste
second|deuxième|segundo|zweite
third|troisième|tercero|dritte
last|dernier|último|letzte
hunger|faim|hambre|Hunger
thirst|soif|sed|Durst
fear|peur|miedo|Angst
luck|chance|suerte|Glück
north|nord|norte|Norden
south|sud|sur|Süden
east|est|este|Osten
west|ouest|oeste|Westen
science|science|ciencia|Wissenschaft
history|histoire|historia|Geschichte
art|art|arte|Kunst
sport|sport|deporte|Sport
football|football|fútbol|Fußball
tennis|tennis|tenis|Tennis
voice|voix|voz|Stimme
noise|bruit|ruido|Lärm
light switch|interrupteur|interruptor|Lichtschalter
shadow|ombre|sombra|Schatten
ice|glaçon|hielo|Eis
France|France|Francia|Frankreich
Spain|Espagne|España|Spanien
Germany|Allemagne|Alemania|Deutschland
Italy|Italie|Italia|Italien
England|Angleterre|Inglaterra|England
French|français|francés|Französisch
Spanish|espagnol|español|Spanisch
German|allemand|alemán|Deutsch
English|anglais|inglés|Englisch
Europe|Europe|Europa|Europa
border|frontière|frontera|Grenze
traffic|circulation|tráfico|Verkehr
luggage|bagages|equipaje|Gepäck
price|prix|precio|Preis
"""
