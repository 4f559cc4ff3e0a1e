# ruff: noqa: E501
"""Verbs of the translation grammar.

Line: ``English past [ing]|French[:je,tu,il,nous,ils:participle[+]]|Spanish[:present[:preterite]]|German[:du,er[:participle[+]]]|objects``.
Left-out forms are regular. A Spanish present without commas is the stressed stem (``duerm``). ``+`` takes être or sein, ``-`` inside a
German infinitive marks a separable prefix; objects are noun classes, ``.`` for none; ``@dat`` marks a German dative object.
"""

VERBS = """
eat ate|manger|comer|essen:isst,isst:gegessen|food,mass
drink drank|boire:bois,bois,boit,buvons,boivent:bu|beber|trinken::getrunken|drink
see saw|voir:vois,vois,voit,voyons,voient:vu|ver:veo,ves,ve,vemos,ven:vi,viste,vio,vimos,vieron|sehen:siehst,sieht:gesehen|person,family,animal,thing,vehicle,nature,place,clothes
buy bought|acheter:achète,achètes,achète,achetons,achètent:acheté|comprar|kaufen|food,mass,drink,clothes,thing,furniture,vehicle,read,animal
sell sold|vendre:vends,vends,vend,vendons,vendent:vendu|vender|verkaufen::verkauft|food,mass,clothes,thing,furniture,vehicle,read
read read|lire:lis,lis,lit,lisons,lisent:lu|leer:leo,lees,lee,leemos,leen:leí,leíste,leyó,leímos,leyeron|lesen:liest,liest:gelesen|read
write wrote|écrire:écris,écris,écrit,écrivons,écrivent:écrit|escribir|schreiben::geschrieben|read
open opened|ouvrir:ouvre,ouvres,ouvre,ouvrons,ouvrent:ouvert|abrir|öffnen:öffnest,öffnet:geöffnet|open
close closed|fermer|cerrar:cierr|schließen::geschlossen|open
wash washed|laver|lavar|waschen:wäschst,wäscht:gewaschen|clothes,vehicle,dog,plate,cup,glass
look_for looked_for looking_for|chercher|buscar|suchen|person,family,animal,thing,clothes,read,place
find found|trouver|encontrar:encuentr|finden::gefunden|animal,thing,clothes,read,place
lose lost|perdre:perds,perds,perd,perdons,perdent:perdu|perder:pierd|verlieren::verloren|thing,clothes
wear wore|porter|llevar|tragen:trägst,trägt:getragen|clothes
have had having|avoir:ai,as,a,avons,ont:eu|tener:tengo,tienes,tiene,tenemos,tienen:tuve,tuviste,tuvo,tuvimos,tuvieron|haben:hast,hat:gehabt|animal,thing,vehicle,clothes,food,mass,drink,read,family_indef,abstract
know knew|connaître:connais,connais,connaît,connaissons,connaissent:connu|conocer:conozco,conoces,conoce,conocemos,conocen|kennen::gekannt|person,family
love loved|aimer|querer:quiero,quieres,quiere,queremos,quieren:quise,quisiste,quiso,quisimos,quisieron|lieben|family
visit visited|visiter|visitar|besuchen::besucht|place
help helped|aider|ayudar|helfen:hilfst,hilft:geholfen|person,family@dat
call called|appeler:appelle,appelles,appelle,appelons,appellent:appelé|llamar|an-rufen::angerufen|person,family
wait_for waited_for waiting_for|attendre:attends,attends,attend,attendons,attendent:attendu|esperar|warten~auf|person,family,vehicle
invite invited|inviter|invitar|ein-laden:lädst,lädt:eingeladen|person,family
take took|prendre:prends,prends,prend,prenons,prennent:pris|tomar|nehmen:nimmst,nimmt:genommen|vehicle_bus
bring brought|apporter|traer:traigo,traes,trae,traemos,traen:traje,trajiste,trajo,trajimos,trajeron|bringen::gebracht|food,mass,drink,thing,read
use used|utiliser|usar|benutzen::benutzt|thing
forget forgot|oublier|olvidar|vergessen:vergisst,vergisst:vergessen|thing,clothes,read
repair repaired|réparer|reparar|reparieren|vehicle,furniture
clean cleaned|nettoyer|limpiar|putzen|room,furniture
build built building|construire:construis,construis,construit,construisons,construisent:construit|construir:construyo,construyes,construye,construimos,construyen:construí,construiste,construyó,construimos,construyeron|bauen|room_house
drive drove|conduire:conduis,conduis,conduit,conduisons,conduisent:conduit|conducir:conduzco,conduces,conduce,conducimos,conducen:conduje,condujiste,condujo,condujimos,condujeron|fahren:fährst,fährt:gefahren|vehicle_drive
feed fed|nourrir:nourris,nourris,nourrit,nourrissons,nourrissent:nourri|alimentar|füttern|pets
understand understood|comprendre:comprends,comprends,comprend,comprenons,comprennent:compris|entender:entiend|verstehen::verstanden|abstract_text,read
finish finished|finir:finis,finis,finit,finissons,finissent:fini|terminar|beenden::beendet|abstract_work,read
hide hid|cacher|esconder|verstecken::versteckt|thing,food,animal,clothes
follow followed|suivre:suis,suis,suit,suivons,suivent:suivi|seguir:sigo,sigues,sigue,seguimos,siguen:seguí,seguiste,siguió,seguimos,siguieron|folgen::gefolgt+|person,animal,vehicle@dat
kiss kissed|embrasser|besar|küssen|family
send sent|envoyer|enviar:enví|schicken|read,thing
receive received|recevoir:reçois,reçois,reçoit,recevons,reçoivent:reçu|recibir|bekommen::bekommen|letters
rent rented|louer|alquilar|mieten|rent_set
draw drew|dessiner|dibujar|zeichnen:zeichnest,zeichnet:gezeichnet|animal,nature,person,room_house
paint painted|peindre:peins,peins,peint,peignons,peignent:peint|pintar|malen|animal,nature,person
carry carried|transporter|transportar|transportieren|furniture,vehicle
choose chose|choisir:choisis,choisis,choisit,choisissons,choisissent:choisi|elegir:elijo,eliges,elige,elegimos,eligen:elegí,elegiste,eligió,elegimos,eligieron|wählen|clothes,thing,read,furniture
cut cut cutting|couper|cortar|schneiden::geschnitten|food,mass_solid
answer answered|répondre:réponds,réponds,répond,répondons,répondent:répondu|responder|antworten|.
photograph photographed|photographier|fotografiar:fotografí|fotografieren|animal,nature,place,person
hate hated|détester|odiar|hassen|abstract_work
touch touched|toucher|tocar|berühren::berührt|animal,thing,furniture,nature
break broke|casser|romper|zerbrechen:zerbrichst,zerbricht:zerbrochen|breakable
meet met meeting|rencontrer|encontrar:encuentr|treffen:triffst,trifft:getroffen|person
watch watched|regarder|mirar|an-schauen::angeschaut|film_set
pay_for paid_for paying_for|payer|pagar|bezahlen::bezahlt|bill_set
hear heard|entendre:entends,entends,entend,entendons,entendent:entendu|oír:oigo,oyes,oye,oímos,oyen:oí,oíste,oyó,oímos,oyeron|hören|song_set
plant planted|planter|plantar|pflanzen|plant_set
push pushed|pousser|empujar|schieben::geschoben|vehicle,furniture
collect collected|collectionner|coleccionar|sammeln|collect_set
catch caught|attraper|atrapar|fangen:fängst,fängt:gefangen|catch_set
listen_to listened_to listening_to|écouter|escuchar|zu-hören::zugehört|person,family@dat
sleep slept|dormir:dors,dors,dort,dormons,dorment:dormi|dormir:duerm:dormí,dormiste,durmió,dormimos,durmieron|schlafen:schläfst,schläft:geschlafen|.
work worked|travailler|trabajar|arbeiten|.
play played|jouer|jugar:jueg|spielen|.
sing sang|chanter|cantar|singen::gesungen|.
dance danced|danser|bailar|tanzen|.
swim swam swimming|nager|nadar|schwimmen::geschwommen+|.
run ran running|courir:cours,cours,court,courons,courent:couru|correr|rennen::gerannt+|.
walk walked|marcher|caminar|laufen:läufst,läuft:gelaufen+|.
travel travelled travelling|voyager|viajar|reisen::gereist+|.
laugh laughed|rire:ris,ris,rit,rions,rient:ri|reír:río,ríes,ríe,reímos,ríen:reí,reíste,rio,reímos,rieron|lachen|.
cry cried|pleurer|llorar|weinen|.
smile smiled|sourire:souris,souris,sourit,sourions,sourient:souri|sonreír:sonrío,sonríes,sonríe,sonreímos,sonríen:sonreí,sonreíste,sonrió,sonreímos,sonrieron|lächeln|.
wait waited|attendre:attends,attends,attend,attendons,attendent:attendu|esperar|warten|.
dream dreamed|rêver|soñar:sueñ|träumen|.
cook cooked|cuisiner|cocinar|kochen|.
study studied|étudier|estudiar|studieren|.
arrive arrived|arriver:::+|llegar|an-kommen::angekommen+|.
come came|venir:viens,viens,vient,venons,viennent:venu+|venir:vengo,vienes,viene,venimos,vienen:vine,viniste,vino,vinimos,vinieron|kommen::gekommen+|.
go went|aller:vais,vas,va,allons,vont:allé+|ir:voy,vas,va,vamos,van:fui,fuiste,fue,fuimos,fueron|gehen::gegangen+|.
live lived|habiter|vivir|wohnen|.
speak spoke|parler|hablar|sprechen:sprichst,spricht:gesprochen|.
learn learned|apprendre:apprends,apprends,apprend,apprenons,apprennent:appris|aprender|lernen|.
think thought|penser|pensar:piens|denken::gedacht|.
breathe breathed|respirer|respirar|atmen:atmest,atmet:geatmet|.
jump jumped|sauter|saltar|springen::gesprungen+|.
shout shouted|crier|gritar|schreien::geschrien|.
cough coughed|tousser|toser|husten|.
smoke smoked|fumer|fumar|rauchen|.
fly flew|voler|volar:vuel|fliegen::geflogen+|.
win won winning|gagner|ganar|gewinnen::gewonnen|.
like liked|aimer|gustar|mögen::gemocht|.
want wanted|vouloir:veux,veux,veut,voulons,veulent:voulu|querer:quiero,quieres,quiere,queremos,quieren:quise,quisiste,quiso,quisimos,quisieron|wollen::gewollt|.
can could|pouvoir:peux,peux,peut,pouvons,peuvent:pu|poder:pued|können::gekonnt|.
must had|devoir:dois,dois,doit,devons,doivent:dû|deber|müssen::gemusst|.
"""

# Noun sets for verbs whose objects are narrower than a class.
OBJECT_SETS = {
    "family_indef": "brother,sister,son,uncle,aunt,cousin,friend,child",
    "vehicle_bus": "bus,train,taxi,plane,boat",
    "vehicle_drive": "car,bus,lorry,taxi",
    "room_house": "house,bridge,castle,tower,garage,hotel",
    "abstract_text": "question,answer,lesson,exercise,problem,story",
    "abstract_work": "exercise,lesson,film,game",
    "letters": "letter,postcard,message,gift,newspaper",
    "rent_set": "house,apartment,garage,boat,car,bicycle,motorbike,lorry",
    "pets": "dog,cat,horse,cow,pig,bird,rabbit,duck,hen,donkey,goat,camel,elephant",
    "breakable": "window,cup,glass,plate,bottle,chair,lamp,mirror,toy,bowl",
    "film_set": "film,game,picture,photo,map",
    "bill_set": "coffee,beer,dinner,ticket,meal,taxi",
    "song_set": "song,bird,dog,radio,guitar,piano,question",
    "plant_set": "tree,flower,rose,apple,potato,tomato",
    "collect_set": "stamp,coin,postcard,photo,book,stone,toy",
    "catch_set": "mouse,butterfly,fly,ball,thief,rabbit,snake",
    "container": "box,bag,bottle,suitcase,drawer,cupboard,glass,basket",
    "inside": "box,bag,suitcase,drawer,cupboard,basket,fridge,kitchen,bathroom,bedroom,garden,garage,house",
    "mass_solid": "bread,cheese,meat,ham,fish",
}

# Imperative of the familiar singular: English key|French|Spanish|German (prefix after a comma).
COMMANDS = """
open|ouvre|abre|öffne
close|ferme|cierra|schließ
wash|lave|lava|wasch
read|lis|lee|lies
buy|achète|compra|kauf
look_for|cherche|busca|such
bring|apporte|trae|bring
eat|mange|come|iss
drink|bois|bebe|trink
clean|nettoie|limpia|putz
help|aide|ayuda|hilf
call|appelle|llama|ruf,an
wait_for|attends|espera|warte
invite|invite|invita|lad,ein
hide|cache|esconde|versteck
feed|nourris|alimenta|füttere
"""
