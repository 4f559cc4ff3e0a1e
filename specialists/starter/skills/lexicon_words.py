"""Adjectives, adverbials, numbers and other small closed sets of the translation grammar."""

# English|French masculine[/feminine]|Spanish (e: estar)|German[/attributive stem]|noun classes|flags
# flags: b French before the noun, p predicative only, a Spanish before the noun.
ADJECTIVES = """
big|grand|grande|groß|animal,thing,vehicle,room,place,furniture,nature,clothes,open,body|b
small|petit|pequeño|klein|animal,thing,vehicle,room,place,furniture,nature,clothes,open,body,person|b
tall|grand|alto|groß|person,family|p
beautiful|beau/belle|hermoso|schön|animal,thing,clothes,place,room,nature,song|b
young|jeune|joven|jung|person,family,animal|b
old|vieux/vieille|viejo|alt|person,animal,thing,vehicle,room,place,clothes,read,furniture,family|b
new|nouveau/nouvelle|nuevo|neu|thing,vehicle,clothes,read,furniture,room|b
good|bon/bonne|bueno|gut|person,read,abstract,food,place_r|ba
bad|mauvais|malo|schlecht|read,abstract,food|ba
long|long/longue|largo|lang|clothes_l,read,street,river|p
short|court|corto|kurz|clothes_l,read|
red|rouge|rojo|rot|thing,clothes,vehicle,furniture,open|
blue|bleu|azul|blau|thing,clothes,vehicle,furniture,open|
green|vert|verde|grün|thing,clothes,vehicle,furniture,open|
yellow|jaune|amarillo|gelb|thing,clothes,vehicle,furniture,open|
black|noir|negro|schwarz|thing,clothes,vehicle,furniture,animal,open|
white|blanc/blanche|blanco|weiß|thing,clothes,vehicle,furniture,animal,open|
grey|gris|gris|grau|thing,clothes,vehicle,furniture,animal,open|
brown|marron!|marrón|braun|thing,clothes,furniture,animal,open|
purple|violet/violette|violeta|lila|clothes,thing|p
pink|rose|rosa|rosa|clothes,thing|p
tired|fatigué|cansado e|müde|person,family,animal|p
happy|heureux/heureuse|feliz|glücklich|person,family|p
sad|triste|triste e|traurig|person,family,animal|p
ill|malade|enfermo e|krank|person,family,animal|p
angry|fâché|enfadado e|wütend|person,family|p
ready|prêt|listo e|bereit|person,family|p
nervous|nerveux/nerveuse|nervioso e|nervös|person,family,animal|p
busy|occupé|ocupado e|beschäftigt|person,family|p
alone|seul|solo e|allein|person,family|p
rich|riche|rico|reich|person,family|
poor|pauvre|pobre|arm|person,family|p
strong|fort|fuerte|stark|person,family,animal|
weak|faible|débil|schwach|person,family,animal|p
intelligent|intelligent|inteligente|intelligent|person,family,animal|
friendly|aimable|amable|freundlich|person,family|
funny|drôle|divertido|lustig|person,family,abstract,read|
famous|célèbre|famoso|berühmt|person,read,place|
quiet|calme|tranquilo|ruhig|person,place,room,animal|
polite|poli|educado|höflich|person,family|
honest|honnête|honesto|ehrlich|person,family|
brave|courageux/courageuse|valiente|mutig|person,family,animal|
lazy|paresseux/paresseuse|perezoso|faul|person,family,animal|
shy|timide|tímido|schüchtern|person,family,animal|
expensive|cher/chère|caro|teuer/teur|thing,clothes,vehicle,furniture,room,food,mass,drink,read|
cheap|bon marché!|barato|billig|thing,clothes,vehicle,furniture,food,mass,read|p
clean|propre|limpio e|sauber|thing,clothes,vehicle,furniture,room|p
dirty|sale|sucio e|schmutzig|thing,clothes,vehicle,furniture,room,animal|p
broken|cassé|roto e|kaputt|thing,furniture,vehicle,open|
open|ouvert|abierto e|offen|open,shop|p
closed|fermé|cerrado e|geschlossen|open,shop|p
empty|vide|vacío e|leer|container,room|p
full|plein|lleno e|voll|container|p
heavy|lourd|pesado|schwer|thing,furniture,container,door|
light|léger/légère|ligero|leicht|thing,clothes,bag,box,suitcase|p
fast|rapide|rápido|schnell|vehicle,animal|
slow|lent|lento|langsam|vehicle,animal|
dangerous|dangereux/dangereuse|peligroso|gefährlich|animal,place_r|
important|important|importante|wichtig|read,abstract,person|
interesting|intéressant|interesante|interessant|read,abstract,place|
boring|ennuyeux/ennuyeuse|aburrido|langweilig|read,abstract,person|p
difficult|difficile|difícil|schwierig|abstract,read|
easy|facile|fácil|einfach|abstract,read|
modern|moderne|moderno|modern|place,room,furniture,vehicle|
comfortable|confortable|cómodo|bequem|furniture,clothes,vehicle|
delicious|délicieux/délicieuse|delicioso|köstlich|food,mass,drink|p
cold|froid|frío e|kalt|mass,drink,room|p
hot|chaud|caliente e|heiß|mass,drink|p
sweet|sucré|dulce|süß|food,drink|p
fresh|frais/fraîche|fresco e|frisch|food,mass|p
curious|curieux/curieuse|curioso|neugierig|person,family,animal|p
jealous|jaloux/jalouse|celoso e|eifersüchtig|person,family|p
worried|inquiet/inquiète|preocupado e|besorgt|person,family|p
proud|fier/fière|orgulloso e|stolz|person,family|p
patient|patient|paciente|geduldig|person,family|
serious|sérieux/sérieuse|serio|ernst|person,family|p
hardworking|travailleur/travailleuse|trabajador|fleißig|person,family|
elegant|élégant|elegante|elegant|person,clothes|
loud|bruyant|ruidoso|laut|animal,street,vehicle|p
soft|doux/douce|suave|weich|pillow,blanket,towel,sofa,bed|p
hard|dur|duro|hart|furniture,stone|
deep|profond|profundo|tief|river,lake,swimming pool|
useful|utile|útil|nützlich|thing,read|p
practical|pratique|práctico|praktisch|thing,clothes,vehicle,furniture|
round|rond|redondo|rund|plate,table,ball,clock,mirror,stone,button|
wild|sauvage|salvaje|wild|lion,tiger,wolf,bear,horse,fox,elephant|
true|vrai|verdadero|wahr|story|p
ugly|laid|feo|hässlich|thing,clothes,animal,furniture,place|
wet|mouillé|mojado e|nass|clothes,thing,animal|p
dry|sec/sèche|seco e|trocken|clothes,mass_solid|p
"""

# English|French|Spanish|German; the sign gives the tense: = present, < past, > future.
TIMES = """
=|today|aujourd'hui|hoy|heute
=|now|maintenant|ahora|jetzt
=|every day|tous les jours|todos los días|jeden Tag
=|in the morning|le matin|por la mañana|am Morgen
=|in the afternoon|l'après-midi|por la tarde|am Nachmittag
=|on Sundays|le dimanche|los domingos|sonntags
=|in summer|en été|en verano|im Sommer
=|in winter|en hiver|en invierno|im Winter
=|in spring|au printemps|en primavera|im Frühling
=|in autumn|en automne|en otoño|im Herbst
=|at night|la nuit|por la noche|in der Nacht
<|yesterday|hier|ayer|gestern
<|last week|la semaine dernière|la semana pasada|letzte Woche
<|last night|hier soir|anoche|gestern Abend
<|last year|l'année dernière|el año pasado|letztes Jahr
<|last month|le mois dernier|el mes pasado|letzten Monat
<|two days ago|il y a deux jours|hace dos días|vor zwei Tagen
>|tomorrow|demain|mañana|morgen
>|next week|la semaine prochaine|la próxima semana|nächste Woche
>|next year|l'année prochaine|el próximo año|nächstes Jahr
>|tonight|ce soir|esta noche|heute Abend
>|this afternoon|cet après-midi|esta tarde|heute Nachmittag
>|soon|bientôt|pronto|bald
"""

FREQUENCY = """
always|toujours|siempre|immer
often|souvent|a menudo|oft
sometimes|parfois|a veces|manchmal
never|jamais|nunca|nie
"""

# Where something happens, and where somebody goes.
WHERE = """
here|ici|aquí|hier
at school|à l'école|en la escuela|in der Schule
in the kitchen|dans la cuisine|en la cocina|in der Küche
in the garden|dans le jardin|en el jardín|im Garten
in the park|dans le parc|en el parque|im Park
at the office|au bureau|en la oficina|im Büro
at home|à la maison|en casa|zu Hause
in the house|dans la maison|en la casa|im Haus
at the restaurant|au restaurant|en el restaurante|im Restaurant
at the library|à la bibliothèque|en la biblioteca|in der Bibliothek
in the street|dans la rue|en la calle|auf der Straße
in the bedroom|dans la chambre|en el dormitorio|im Schlafzimmer
in the city|dans la ville|en la ciudad|in der Stadt
in the village|dans le village|en el pueblo|im Dorf
in Paris|à Paris|en París|in Paris
in Madrid|à Madrid|en Madrid|in Madrid
in Berlin|à Berlin|en Berlín|in Berlin
in London|à Londres|en Londres|in London
in Spain|en Espagne|en España|in Spanien
in France|en France|en Francia|in Frankreich
in Germany|en Allemagne|en Alemania|in Deutschland
in England|en Angleterre|en Inglaterra|in England
in Italy|en Italie|en Italia|in Italien
"""

TOWARDS = """
to school|à l'école|a la escuela|in die Schule
to the park|au parc|al parque|in den Park
to the cinema|au cinéma|al cine|ins Kino
to the theatre|au théâtre|al teatro|ins Theater
to the beach|à la plage|a la playa|an den Strand
to the market|au marché|al mercado|auf den Markt
to the supermarket|au supermarché|al supermercado|in den Supermarkt
to the museum|au musée|al museo|ins Museum
to the library|à la bibliothèque|a la biblioteca|in die Bibliothek
to the restaurant|au restaurant|al restaurante|ins Restaurant
to the station|à la gare|a la estación|zum Bahnhof
to the airport|à l'aéroport|al aeropuerto|zum Flughafen
to the doctor|chez le médecin|al médico|zum Arzt
to the bakery|à la boulangerie|a la panadería|zur Bäckerei
to the office|au bureau|a la oficina|ins Büro
to the swimming pool|à la piscine|a la piscina|ins Schwimmbad
to the hospital|à l'hôpital|al hospital|ins Krankenhaus
to church|à l'église|a la iglesia|in die Kirche
home|à la maison|a casa|nach Hause
to Paris|à Paris|a París|nach Paris
to London|à Londres|a Londres|nach London
to Berlin|à Berlin|a Berlín|nach Berlin
to Madrid|à Madrid|a Madrid|nach Madrid
to Spain|en Espagne|a España|nach Spanien
to France|en France|a Francia|nach Frankreich
to Italy|en Italie|a Italia|nach Italien
"""

PREPOSITIONS = """
in|dans|en|in|inside
on|sur|sobre|auf|furniture
under|sous|debajo de|unter|furniture,tree
behind|derrière|detrás de|hinter|furniture,place,room_house,tree,door
in front of|devant|delante de|vor|place,vehicle,door
next to|à côté de|al lado de|neben|furniture,place,vehicle
"""

COMPANIONS = """
with|avec|con|mit|dat
without|sans|sin|ohne|acc
for|pour|para|für|acc
"""

NUMBERS = """
one|un|uno|eins
two|deux|dos|zwei
three|trois|tres|drei
four|quatre|cuatro|vier
five|cinq|cinco|fünf
six|six|seis|sechs
seven|sept|siete|sieben
eight|huit|ocho|acht
nine|neuf|nueve|neun
ten|dix|diez|zehn
eleven|onze|once|elf
twelve|douze|doce|zwölf
thirteen|treize|trece|dreizehn
fourteen|quatorze|catorce|vierzehn
fifteen|quinze|quince|fünfzehn
sixteen|seize|dieciséis|sechzehn
seventeen|dix-sept|diecisiete|siebzehn
eighteen|dix-huit|dieciocho|achtzehn
nineteen|dix-neuf|diecinueve|neunzehn
twenty|vingt|veinte|zwanzig
thirty|trente|treinta|dreißig
forty|quarante|cuarenta|vierzig
fifty|cinquante|cincuenta|fünfzig
sixty|soixante|sesenta|sechzig
hundred|cent|cien|hundert
"""

# Feelings that are "had": English adjective|French|Spanish|German noun|German negation
STATES = """
hungry|faim|hambre|Hunger|keinen
thirsty|soif|sed|Durst|keinen
afraid|peur|miedo|Angst|keine
lucky|de la chance|suerte|Glück|kein
right|raison|razón|recht|nicht
"""

LANGUAGES = """
French|français|francés|Französisch
Spanish|espagnol|español|Spanisch
German|allemand|alemán|Deutsch
English|anglais|inglés|Englisch
Italian|italien|italiano|Italienisch
Russian|russe|ruso|Russisch
Chinese|chinois|chino|Chinesisch
Japanese|japonais|japonés|Japanisch
"""

COUNTRIES = """
France|de France|Francia|Frankreich
Spain|d'Espagne|España|Spanien
Germany|d'Allemagne|Alemania|Deutschland
Italy|d'Italie|Italia|Italien
England|d'Angleterre|Inglaterra|England
Canada|du Canada|Canadá|Kanada
Russia|de Russie|Rusia|Russland
China|de Chine|China|China
Japan|du Japon|Japón|Japan
Mexico|du Mexique|México|Mexiko
Portugal|du Portugal|Portugal|Portugal
"""

NAMES = "Anna Paul Maria Thomas David Laura Emma Daniel Julia Martin Lucas Sara"
