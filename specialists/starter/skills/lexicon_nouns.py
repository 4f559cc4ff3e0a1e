"""Nouns of the translation grammar.

Line: ``English[/plural]|French g[/plural]|Spanish g[/plural]|German g plural [w]``.

A line that starts with ``#`` names the semantic class of the lines below it. ``w`` marks a weak German noun.
"""

NOUNS = """
#person
scientist|scientifique m|científico m|Wissenschaftler m Wissenschaftler
judge|juge m|juez m/jueces|Richter m Richter
hunter|chasseur m|cazador m|Jäger m Jäger
gardener|jardinier m|jardinero m|Gärtner m Gärtner
tailor|tailleur m|sastre m|Schneider m Schneider
thief/thieves|voleur m|ladrón m|Dieb m Diebe
man/men|homme m|hombre m|Mann m Männer
woman/women|femme f|mujer f|Frau f Frauen
boy|garçon m|chico m|Junge m Jungen w
girl|fille f|chica f|Mädchen n Mädchen
child/children|enfant m|niño m|Kind n Kinder
friend|ami m|amigo m|Freund m Freunde
teacher|professeur m|profesor m|Lehrer m Lehrer
doctor|médecin m|médico m|Arzt m Ärzte
student|étudiant m|estudiante m|Student m Studenten w
neighbour|voisin m|vecino m|Nachbar m Nachbarn w
baby|bébé m|bebé m|Baby n Babys
king|roi m|rey m|König m Könige
queen|reine f|reina f|Königin f Königinnen
farmer|agriculteur m|agricultor m|Bauer m Bauern w
cook|cuisinier m|cocinero m|Koch m Köche
waiter|serveur m|camarero m|Kellner m Kellner
nurse|infirmière f|enfermera f|Krankenschwester f Krankenschwestern
singer|chanteur m|cantante m|Sänger m Sänger
guest|invité m|invitado m|Gast m Gäste
tourist|touriste m|turista m|Tourist m Touristen w
driver|conducteur m|conductor m|Fahrer m Fahrer
writer|écrivain m|escritor m|Schriftsteller m Schriftsteller
lawyer|avocat m|abogado m|Anwalt m Anwälte
engineer|ingénieur m|ingeniero m|Ingenieur m Ingenieure
boss/bosses|patron m|jefe m|Chef m Chefs
colleague|collègue m|colega m|Kollege m Kollegen w
dentist|dentiste m|dentista m|Zahnarzt m Zahnärzte
actor|acteur m|actor m|Schauspieler m Schauspieler
painter|peintre m|pintor m|Maler m Maler
soldier|soldat m|soldado m|Soldat m Soldaten w
prince|prince m|príncipe m|Prinz m Prinzen w
princess/princesses|princesse f|princesa f|Prinzessin f Prinzessinnen
lady|dame f|señora f|Dame f Damen
baker|boulanger m|panadero m|Bäcker m Bäcker
butcher|boucher m|carnicero m|Metzger m Metzger
policeman/policemen|policier m|policía m|Polizist m Polizisten w
musician|musicien m|músico m|Musiker m Musiker
pilot|pilote m|piloto m|Pilot m Piloten w
#family
mother|mère f|madre f|Mutter f Mütter
father|père m|padre m|Vater m Väter
brother|frère m|hermano m|Bruder m Brüder
sister|sœur f|hermana f|Schwester f Schwestern
son|fils m/fils|hijo m|Sohn m Söhne
daughter|fille f|hija f|Tochter f Töchter
grandmother|grand-mère f/grands-mères|abuela f|Großmutter f Großmütter
grandfather|grand-père m/grands-pères|abuelo m|Großvater m Großväter
uncle|oncle m|tío m|Onkel m Onkel
aunt|tante f|tía f|Tante f Tanten
cousin|cousin m|primo m|Cousin m Cousins
husband|mari m|marido m|Ehemann m Ehemänner
wife/wives|épouse f|esposa f|Ehefrau f Ehefrauen
#animal
dolphin|dauphin m|delfín m|Delfin m Delfine
ant|fourmi f|hormiga f|Ameise f Ameisen
crocodile|crocodile m|cocodrilo m|Krokodil n Krokodile
camel|chameau m|camello m|Kamel n Kamele
penguin|manchot m|pingüino m|Pinguin m Pinguine
snail|escargot m|caracol m|Schnecke f Schnecken
parrot|perroquet m|loro m|Papagei m Papageien
shark|requin m|tiburón m|Hai m Haie
dog|chien m|perro m|Hund m Hunde
cat|chat m|gato m|Katze f Katzen
horse|cheval m|caballo m|Pferd n Pferde
cow|vache f|vaca f|Kuh f Kühe
pig|cochon m|cerdo m|Schwein n Schweine
bird|oiseau m|pájaro m|Vogel m Vögel
mouse/mice|souris f/souris|ratón m|Maus f Mäuse
rabbit|lapin m|conejo m|Kaninchen n Kaninchen
duck|canard m|pato m|Ente f Enten
goat|chèvre f|cabra f|Ziege f Ziegen
bear|ours m/ours|oso m|Bär m Bären w
lion|lion m|león m|Löwe m Löwen w
tiger|tigre m|tigre m|Tiger m Tiger
elephant|éléphant m|elefante m|Elefant m Elefanten w
monkey|singe m|mono m|Affe m Affen w
snake|serpent m|serpiente f|Schlange f Schlangen
frog|grenouille f|rana f|Frosch m Frösche
turtle|tortue f|tortuga f|Schildkröte f Schildkröten
wolf/wolves|loup m|lobo m|Wolf m Wölfe
fox/foxes|renard m|zorro m|Fuchs m Füchse
hen|poule f|gallina f|Henne f Hennen
donkey|âne m|burro m|Esel m Esel
butterfly|papillon m|mariposa f|Schmetterling m Schmetterlinge
bee|abeille f|abeja f|Biene f Bienen
spider|araignée f|araña f|Spinne f Spinnen
fly|mouche f|mosca f|Fliege f Fliegen
giraffe|girafe f|jirafa f|Giraffe f Giraffen
squirrel|écureuil m|ardilla f|Eichhörnchen n Eichhörnchen
owl|hibou m/hiboux|búho m|Eule f Eulen
whale|baleine f|ballena f|Wal m Wale
#food
plum|prune f|ciruela f|Pflaume f Pflaumen
cucumber|concombre m|pepino m|Gurke f Gurken
melon|melon m|melón m|Melone f Melonen
pancake|crêpe f|tortita f|Pfannkuchen m Pfannkuchen
candy|bonbon m|caramelo m|Bonbon n Bonbons
apple|pomme f|manzana f|Apfel m Äpfel
banana|banane f|plátano m|Banane f Bananen
orange|orange f|naranja f|Orange f Orangen
pear|poire f|pera f|Birne f Birnen
lemon|citron m|limón m|Zitrone f Zitronen
strawberry|fraise f|fresa f|Erdbeere f Erdbeeren
cherry|cerise f|cereza f|Kirsche f Kirschen
peach/peaches|pêche f|melocotón m|Pfirsich m Pfirsiche
tomato/tomatoes|tomate f|tomate m|Tomate f Tomaten
potato/potatoes|pomme de terre f/pommes de terre|patata f|Kartoffel f Kartoffeln
carrot|carotte f|zanahoria f|Karotte f Karotten
onion|oignon m|cebolla f|Zwiebel f Zwiebeln
egg|œuf m|huevo m|Ei n Eier
cake|gâteau m|pastel m|Kuchen m Kuchen
pizza|pizza f|pizza f|Pizza f Pizzas
sandwich/sandwiches|sandwich m|bocadillo m|Sandwich n Sandwiches
biscuit|biscuit m|galleta f|Keks m Kekse
sausage|saucisse f|salchicha f|Wurst f Würste
mushroom|champignon m|seta f|Pilz m Pilze
nut|noix f/noix|nuez f/nueces|Nuss f Nüsse
salad|salade f|ensalada f|Salat m Salate
#mass
bread|pain m|pan m|Brot n -
meat|viande f|carne f|Fleisch n -
fish|poisson m|pescado m|Fisch m -
cheese|fromage m|queso m|Käse m -
rice|riz m|arroz m|Reis m -
butter|beurre m|mantequilla f|Butter f -
soup|soupe f|sopa f|Suppe f -
chocolate|chocolat m|chocolate m|Schokolade f -
chicken|poulet m|pollo m|Hähnchen n -
ham|jambon m|jamón m|Schinken m -
honey|miel m|miel f|Honig m -
sugar|sucre m|azúcar m|Zucker m -
salt|sel m|sal f|Salz n -
jam|confiture f|mermelada f|Marmelade f -
ice cream|glace f|helado m|Eis n -
fruit|fruit m|fruta f|Obst n -
oil|huile f|aceite m|Öl n -
pepper|poivre m|pimienta f|Pfeffer m -
garlic|ail m|ajo m|Knoblauch m -
#drink
water|eau f|agua x|Wasser n -
milk|lait m|leche f|Milch f -
coffee|café m|café m|Kaffee m -
tea|thé m|té m|Tee m -
wine|vin m|vino m|Wein m -
beer|bière f|cerveza f|Bier n -
juice|jus m|zumo m|Saft m -
lemonade|limonade f|limonada f|Limonade f -
#clothes
suit|costume m|traje m|Anzug m Anzüge
blouse|chemisier m|blusa f|Bluse f Blusen
shirt|chemise f|camisa f|Hemd n Hemden
dress/dresses|robe f|vestido m|Kleid n Kleider
coat|manteau m|abrigo m|Mantel m Mäntel
jacket|veste f|chaqueta f|Jacke f Jacken
hat|chapeau m|sombrero m|Hut m Hüte
skirt|jupe f|falda f|Rock m Röcke
shoe|chaussure f|zapato m|Schuh m Schuhe
sock|chaussette f|calcetín m|Socke f Socken
boot|botte f|bota f|Stiefel m Stiefel
glove|gant m|guante m|Handschuh m Handschuhe
scarf/scarves|écharpe f|bufanda f|Schal m Schals
belt|ceinture f|cinturón m|Gürtel m Gürtel
tie|cravate f|corbata f|Krawatte f Krawatten
cap|casquette f|gorra f|Mütze f Mützen
ring|bague f|anillo m|Ring m Ringe
sweater|pull m|suéter m|Pullover m Pullover
#read
book|livre m|libro m|Buch n Bücher
letter|lettre f|carta f|Brief m Briefe
newspaper|journal m|periódico m|Zeitung f Zeitungen
magazine|magazine m|revista f|Zeitschrift f Zeitschriften
story|histoire f|historia f|Geschichte f Geschichten
poem|poème m|poema m|Gedicht n Gedichte
postcard|carte postale f/cartes postales|postal f|Postkarte f Postkarten
text|texte m|texto m|Text m Texte
message|message m|mensaje m|Nachricht f Nachrichten
sentence|phrase f|frase f|Satz m Sätze
word|mot m|palabra f|Wort n Wörter
#open
door|porte f|puerta f|Tür f Türen
window|fenêtre f|ventana f|Fenster n Fenster
box/boxes|boîte f|caja f|Schachtel f Schachteln
suitcase|valise f|maleta f|Koffer m Koffer
bag|sac m|bolso m|Tasche f Taschen
bottle|bouteille f|botella f|Flasche f Flaschen
drawer|tiroir m|cajón m|Schublade f Schubladen
cupboard|placard m|armario m|Schrank m Schränke
#thing
needle|aiguille f|aguja f|Nadel f Nadeln
button|bouton m|botón m|Knopf m Knöpfe
bowl|bol m|cuenco m|Schüssel f Schüsseln
pan|poêle f|sartén f/sartenes|Pfanne f Pfannen
violin|violon m|violín m|Geige f Geigen
drum|tambour m|tambor m|Trommel f Trommeln
comb|peigne m|peine m|Kamm m Kämme
rope|corde f|cuerda f|Seil n Seile
flag|drapeau m|bandera f|Fahne f Fahnen
stamp|timbre m|sello m|Briefmarke f Briefmarken
coin|pièce f|moneda f|Münze f Münzen
rose|rose f|rosa f|Rose f Rosen
soap|savon m|jabón m|Seife f Seifen
key|clé f|llave f|Schlüssel m Schlüssel
pen|stylo m|bolígrafo m|Kugelschreiber m Kugelschreiber
pencil|crayon m|lápiz m/lápices|Bleistift m Bleistifte
phone|téléphone m|teléfono m|Telefon n Telefone
computer|ordinateur m|ordenador m|Computer m Computer
camera|appareil photo m/appareils photo|cámara f|Kamera f Kameras
clock|horloge f|reloj m|Uhr f Uhren
umbrella|parapluie m|paraguas m/paraguas|Regenschirm m Regenschirme
lamp|lampe f|lámpara f|Lampe f Lampen
picture|image f|imagen f/imágenes|Bild n Bilder
photo|photo f|foto f|Foto n Fotos
knife/knives|couteau m|cuchillo m|Messer n Messer
fork|fourchette f|tenedor m|Gabel f Gabeln
spoon|cuillère f|cuchara f|Löffel m Löffel
plate|assiette f|plato m|Teller m Teller
cup|tasse f|taza f|Tasse f Tassen
glass/glasses|verre m|vaso m|Glas n Gläser
ball|ballon m|pelota f|Ball m Bälle
toy|jouet m|juguete m|Spielzeug n Spielzeuge
gift|cadeau m|regalo m|Geschenk n Geschenke
ticket|billet m|billete m|Fahrkarte f Fahrkarten
map|carte f|mapa m|Karte f Karten
notebook|cahier m|cuaderno m|Heft n Hefte
dictionary|dictionnaire m|diccionario m|Wörterbuch n Wörterbücher
guitar|guitare f|guitarra f|Gitarre f Gitarren
piano|piano m|piano m|Klavier n Klaviere
mirror|miroir m|espejo m|Spiegel m Spiegel
blanket|couverture f|manta f|Decke f Decken
pillow|oreiller m|almohada f|Kissen n Kissen
towel|serviette f|toalla f|Handtuch n Handtücher
brush/brushes|brosse f|cepillo m|Bürste f Bürsten
candle|bougie f|vela f|Kerze f Kerzen
flower|fleur f|flor f|Blume f Blumen
wallet|portefeuille m|cartera f|Geldbeutel m Geldbeutel
passport|passeport m|pasaporte m|Reisepass m Reisepässe
basket|panier m|cesta f|Korb m Körbe
hammer|marteau m|martillo m|Hammer m Hämmer
doll|poupée f|muñeca f|Puppe f Puppen
radio|radio f|radio f|Radio n Radios
#furniture
armchair|fauteuil m|sillón m|Sessel m Sessel
washing machine|machine à laver f/machines à laver|lavadora f|Waschmaschine f Waschmaschinen
table|table f|mesa f|Tisch m Tische
chair|chaise f|silla f|Stuhl m Stühle
bed|lit m|cama f|Bett n Betten
sofa|canapé m|sofá m|Sofa n Sofas
desk|bureau m|escritorio m|Schreibtisch m Schreibtische
fridge|frigo m|nevera f|Kühlschrank m Kühlschränke
oven|four m|horno m|Ofen m Öfen
carpet|tapis m/tapis|alfombra f|Teppich m Teppiche
#vehicle
ship|navire m|buque m|Schiff n Schiffe
tram|tramway m|tranvía m|Straßenbahn f Straßenbahnen
car|voiture f|coche m|Auto n Autos
bicycle|vélo m|bicicleta f|Fahrrad n Fahrräder
bus/buses|bus m/bus|autobús m/autobuses|Bus m Busse
train|train m|tren m|Zug m Züge
plane|avion m|avión m|Flugzeug n Flugzeuge
boat|bateau m|barco m|Boot n Boote
taxi|taxi m|taxi m|Taxi n Taxis
lorry|camion m|camión m|Lastwagen m Lastwagen
motorbike|moto f|moto f|Motorrad n Motorräder
#room
house|maison f|casa f|Haus n Häuser
kitchen|cuisine f|cocina f|Küche f Küchen
bathroom|salle de bains f/salles de bains|baño m|Badezimmer n Badezimmer
bedroom|chambre f|dormitorio m|Schlafzimmer n Schlafzimmer
garden|jardin m|jardín m|Garten m Gärten
apartment|appartement m|piso m|Wohnung f Wohnungen
office|bureau m|oficina f|Büro n Büros
garage|garage m|garaje m|Garage f Garagen
classroom|salle de classe f/salles de classe|aula x|Klassenzimmer n Klassenzimmer
#place
stadium|stade m|estadio m|Stadion n Stadien
zoo|zoo m|zoo m|Zoo m Zoos
café|café m|cafetería f|Café n Cafés
prison|prison f|prisión f|Gefängnis n Gefängnisse
palace|palais m/palais|palacio m|Palast m Paläste
school|école f|escuela f|Schule f Schulen
church/churches|église f|iglesia f|Kirche f Kirchen
hospital|hôpital m|hospital m|Krankenhaus n Krankenhäuser
hotel|hôtel m|hotel m|Hotel n Hotels
restaurant|restaurant m|restaurante m|Restaurant n Restaurants
museum|musée m|museo m|Museum n Museen
library|bibliothèque f|biblioteca f|Bibliothek f Bibliotheken
station|gare f|estación f|Bahnhof m Bahnhöfe
airport|aéroport m|aeropuerto m|Flughafen m Flughäfen
bank|banque f|banco m|Bank f Banken
shop|magasin m|tienda f|Laden m Läden
market|marché m|mercado m|Markt m Märkte
park|parc m|parque m|Park m Parks
bridge|pont m|puente m|Brücke f Brücken
street|rue f|calle f|Straße f Straßen
square|place f|plaza f|Platz m Plätze
city|ville f|ciudad f|Stadt f Städte
village|village m|pueblo m|Dorf n Dörfer
castle|château m|castillo m|Schloss n Schlösser
tower|tour f|torre f|Turm m Türme
cinema|cinéma m|cine m|Kino n Kinos
theatre|théâtre m|teatro m|Theater n Theater
bakery|boulangerie f|panadería f|Bäckerei f Bäckereien
pharmacy|pharmacie f|farmacia f|Apotheke f Apotheken
factory|usine f|fábrica f|Fabrik f Fabriken
university|université f|universidad f|Universität f Universitäten
beach/beaches|plage f|playa f|Strand m Strände
swimming pool|piscine f|piscina f|Schwimmbad n Schwimmbäder
supermarket|supermarché m|supermercado m|Supermarkt m Supermärkte
farm|ferme f|granja f|Bauernhof m Bauernhöfe
harbour|port m|puerto m|Hafen m Häfen
#nature
valley|vallée f|valle m|Tal n Täler
waterfall|cascade f|cascada f|Wasserfall m Wasserfälle
desert|désert m|desierto m|Wüste f Wüsten
tree|arbre m|árbol m|Baum m Bäume
river|rivière f|río m|Fluss m Flüsse
mountain|montagne f|montaña f|Berg m Berge
forest|forêt f|bosque m|Wald m Wälder
lake|lac m|lago m|See m Seen
island|île f|isla f|Insel f Inseln
star|étoile f|estrella f|Stern m Sterne
cloud|nuage m|nube f|Wolke f Wolken
stone|pierre f|piedra f|Stein m Steine
leaf/leaves|feuille f|hoja f|Blatt n Blätter
field|champ m|campo m|Feld n Felder
hill|colline f|colina f|Hügel m Hügel
moon|lune f|luna f|Mond m Monde
#abstract
mistake|faute f|error m|Fehler m Fehler
plan|plan m|plan m|Plan m Pläne
secret|secret m|secreto m|Geheimnis n Geheimnisse
exam|examen m|examen m|Prüfung f Prüfungen
question|question f|pregunta f|Frage f Fragen
problem|problème m|problema m|Problem n Probleme
idea|idée f|idea f|Idee f Ideen
song|chanson f|canción f|Lied n Lieder
film|film m|película f|Film m Filme
lesson|leçon f|lección f|Lektion f Lektionen
game|jeu m|juego m|Spiel n Spiele
party|fête f|fiesta f|Party f Partys
answer|réponse f|respuesta f|Antwort f Antworten
exercise|exercice m|ejercicio m|Übung f Übungen
dream|rêve m|sueño m|Traum m Träume
journey|voyage m|viaje m|Reise f Reisen
#body
thumb|pouce m|pulgar m|Daumen m Daumen
head|tête f|cabeza f|Kopf m Köpfe
hand|main f|mano f|Hand f Hände
arm|bras m/bras|brazo m|Arm m Arme
leg|jambe f|pierna f|Bein n Beine
foot/feet|pied m|pie m|Fuß m Füße
eye|œil m/yeux|ojo m|Auge n Augen
ear|oreille f|oreja f|Ohr n Ohren
nose|nez m/nez|nariz f/narices|Nase f Nasen
mouth|bouche f|boca f|Mund m Münder
back|dos m/dos|espalda f|Rücken m Rücken
tooth/teeth|dent f|diente m|Zahn m Zähne
finger|doigt m|dedo m|Finger m Finger
knee|genou m/genoux|rodilla f|Knie n Knie
neck|cou m|cuello m|Hals m Hälse
stomach|ventre m|estómago m|Bauch m Bäuche
shoulder|épaule f|hombro m|Schulter f Schultern
heart|cœur m|corazón m|Herz n Herzen
"""
