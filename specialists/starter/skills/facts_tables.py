"""Common-knowledge facts that complete the relation files, corrections to them, and the names to keep first.

Written by hand, so that everyday questions ("where is the Eiffel Tower?") have an answer: general
knowledge, in no file of the data folder.
"""

from __future__ import annotations


def _pairs(text: str) -> dict[str, str]:
    """Read ``subject=object; subject=object`` into a dict."""
    items = (item.split("=") for item in text.split(";") if item.strip())
    return {subject.strip(): obj.strip() for subject, obj in items}


def _grouped(text: str) -> dict[str, str]:
    """Read lines ``object: subject, subject`` into subject -> object."""
    lines = (line.split(":", 1) for line in text.strip().splitlines())
    return {subject.strip(): obj.strip() for obj, subjects in lines for subject in subjects.split(",")}


def _names(text: str) -> frozenset[str]:
    """Read ``name;name`` into a set."""
    return frozenset(text.split(";"))


RENAMED = {
    "United States of America": "United States",
    "Cote d'Ivoire": "Ivory Coast",
    "Cabo Verde": "Cape Verde",
    "potatos": "potatoes",
}

# An empty object removes the subject: it is ambiguous, disputed or wrong in the file.
CORRECTIONS: dict[str, dict[str, str]] = {
    "capital": _pairs(
        "United States=Washington, D.C.; Brazil=Brasilia; Colombia=Bogota; Bolivia=Sucre; Burundi=Gitega;"
        " Congo=;"
        "Republic of the Congo=Brazzaville; Ukraine=Kyiv; Sri Lanka=; Monaco=; Nauru=Yaren; Israel=;"
        " Palestine=;"
        "Costa Rica=San Jose; Paraguay=Asuncion; Maldives=Male; Tonga=Nuku'alofa; Togo=Lome; Luxembourg=;"
        "San Marino=; Singapore=; Vatican City=; Djibouti=; Saint Vincent and the Grenadines="
    ),
    "currency": _pairs(
        "Niger=franc; Croatia=euro; Latvia=euro; Lithuania=euro; Bulgaria=euro; Zimbabwe=; Congo=;"
        " Palestine=;"
        "Venezuela=bolivar; Costa Rica=colon; Nicaragua=cordoba; Tonga=; Samoa=; Vatican City=euro;"
        " Iceland=krona;"
        "Saint Vincent and the Grenadines=; Republic of the Congo=franc"
    ),
    "largest-city": _pairs("Brazil=Sao Paulo; Turkey=Istanbul"),
    "city-country": _pairs(
        "Costa Rica=; San Juan=; Santiago de Chile=; São Paulo=; Sao Paulo=Brazil; Georgetown=Guyana"
    ),
    "food-country": _pairs("Shawarma=; Falafel=; Gyro=; Hummus="),
    "superclass": _pairs("flower=; tree=; fish=; tiger=mammal; elephant=mammal; giraffe=mammal; lion=mammal"),
    "tool": _pairs(
        "knitting=knitting needles; swimming=; cooking=; dancing=; hunting=; boating=; photography="
    ),
    "sport": _pairs(
        "Ed O'Neill=; Leon Allen White=; Dean Cain=; Otto Graham=football; George Plimpton=; Jim Thorpe=;"
        "Deion Sanders=football; Chuck Connors=; Woody Strode=; Billy Sunday=baseball; Bo Jackson=;"
        "George Halas=football; Roman Reigns=; Bill Goldberg=; Brock Lesnar=; Terry Crews=; Carl Weathers="
    ),
    "native-language": _pairs(
        "Russians in Ukraine=; Russians=; Swedes=; Skolts=; Ingrian Finns=; Don Cossacks=; Chveneburi=;"
        "Goncourt brothers=; John Calvin=French; Pablo Picasso=Spanish"
    ),
    "instrument": _pairs(
        "Hugh Laurie=; Britney Spears=; Elvis Presley=guitar; Jared Leto=; Eric Clapton=guitar;"
        "Mark Knopfler=guitar; Jimmy Page=guitar; Fats Waller=piano; Paul McCartney=guitar"
    ),
    "occupation": _pairs(
        "Lou Reed=musician; Whitney Houston=singer; Janet Jackson=singer; Halle Berry=actor; Ciara=singer;"
        "Johann Wolfgang von Goethe=poet; H. P. Lovecraft=novelist; Stephen Colbert=comedian;"
        "Aristotle=philosopher; Michelangelo=painter; Rowland Hill=; Christopher Guest=actor"
    ),
    "landmark-country": _pairs(
        "Carpathian Mountains=; Georgians=; agglomeration community=; cadastral municipality=;"
        "Christian Democrats=; Virgin Classics=; route 75=; prefectural road=; regiopolis=; AH3=;"
        "New England=; Asian Highway Network=; House of Representatives=; Eurasian Steppe="
    ),
    "president-birth": _pairs("Richard M. Nixon="),
    "president-election": _pairs("Richard M. Nixon="),
    "work-place": _pairs("truck driver=truck"),
    "maker": _pairs("Windows 2.1x=; Books=; Dashboard=; Motion=; Gears=; Fonz=; V8=; Dino="),
}

EXTRA: dict[str, dict[str, str]] = {
    "language": _grouped("""
Spanish: Cuba, Ecuador, Bolivia, Paraguay, Uruguay, Guatemala, Honduras, Nicaragua, Costa Rica, Panama
Spanish: Dominican Republic
Spanish: El Salvador
English: United Kingdom, Ireland, New Zealand, Jamaica, Ghana, Barbados, Bahamas, Liberia, Gambia
French: Monaco, Senegal, Ivory Coast, Gabon, Mali
German: Austria, Liechtenstein
Portuguese: Portugal, Angola, Mozambique, Cape Verde
Arabic: Morocco, Algeria, Tunisia, Libya, Iraq, Jordan, Syria, Lebanon, Kuwait, Qatar, Oman, Yemen
Arabic: United Arab Emirates
Arabic: Bahrain, Sudan
Dutch: Netherlands, Suriname
Greek: Greece, Cyprus
Polish: Poland
Swedish: Sweden
Norwegian: Norway
Danish: Denmark
Finnish: Finland
Icelandic: Iceland
Hungarian: Hungary
Czech: Czech Republic
Slovak: Slovakia
Romanian: Romania, Moldova
Bulgarian: Bulgaria
Ukrainian: Ukraine
Croatian: Croatia
Serbian: Serbia
Albanian: Albania
Lithuanian: Lithuania
Latvian: Latvia
Estonian: Estonia
Hebrew: Israel
Persian: Iran
Thai: Thailand
Vietnamese: Vietnam
Indonesian: Indonesia
Malay: Malaysia, Brunei
Filipino: Philippines
Khmer: Cambodia
Lao: Laos
Burmese: Myanmar
Bengali: Bangladesh
Nepali: Nepal
Mongolian: Mongolia
Georgian: Georgia
Armenian: Armenia
Amharic: Ethiopia
Somali: Somalia
Swahili: Kenya, Tanzania
Slovene: Slovenia
Macedonian: North Macedonia
Korean: North Korea
"""),
    "largest-city": _pairs(
        "Portugal=Lisbon; Greece=Athens; Sweden=Stockholm; Norway=Oslo; Denmark=Copenhagen;"
        " Finland=Helsinki;"
        "Austria=Vienna; Hungary=Budapest; Czech Republic=Prague; Ireland=Dublin; Romania=Bucharest;"
        " Ukraine=Kyiv;"
        "Egypt=Cairo; Morocco=Casablanca; Kenya=Nairobi; Ethiopia=Addis Ababa; Tanzania=Dar es Salaam;"
        " Ghana=Accra;"
        "Chile=Santiago; Peru=Lima; Colombia=Bogota; Venezuela=Caracas; Ecuador=Guayaquil;"
        " Bolivia=Santa Cruz;"
        "Vietnam=Ho Chi Minh City; Thailand=Bangkok; Indonesia=Jakarta; Malaysia=Kuala Lumpur; Iran=Tehran;"
        "Iraq=Baghdad; Saudi Arabia=Riyadh; Bangladesh=Dhaka; Kazakhstan=Almaty; Lebanon=Beirut;"
        " Jamaica=Kingston;"
        "Cuba=Havana; Myanmar=Yangon; Cambodia=Phnom Penh; Iceland=Reykjavik; Belgium=Brussels;"
        "United Arab Emirates=Dubai; Nepal=Kathmandu"
    ),
    "continent": _grouped("""
Europe: Albania, Andorra, Austria, Belarus, Belgium, Bosnia and Herzegovina, Bulgaria, Croatia
Europe: Czech Republic, Denmark
Europe: Estonia, Finland, France, Germany, Greece, Hungary, Iceland, Ireland, Italy, Kosovo, Latvia
Europe: Liechtenstein
Europe: Lithuania, Luxembourg, Malta, Moldova, Monaco, Montenegro, Netherlands, North Macedonia
Europe: Norway, Poland, Portugal
Europe: Romania, San Marino, Serbia, Slovakia, Slovenia, Spain, Sweden, Switzerland, Ukraine
Europe: United Kingdom, Vatican City
Asia: Afghanistan, Bahrain, Bangladesh, Bhutan, Brunei, Cambodia, China, India, Indonesia, Iran, Iraq
Asia: Israel, Japan
Asia: Jordan, Kazakhstan, Kuwait, Kyrgyzstan, Laos, Lebanon, Malaysia, Maldives, Mongolia, Myanmar
Asia: Nepal, North Korea
Asia: Oman, Pakistan, Philippines, Qatar, Saudi Arabia, Singapore, South Korea, Sri Lanka, Syria
Asia: Taiwan, Tajikistan
Asia: Thailand, Turkmenistan, United Arab Emirates, Uzbekistan, Vietnam, Yemen
Africa: Algeria, Angola, Benin, Botswana, Burkina Faso, Burundi, Cameroon, Cape Verde, Chad, Comoros
Africa: Djibouti, Egypt
Africa: Eritrea, Eswatini, Ethiopia, Gabon, Gambia, Ghana, Guinea, Ivory Coast, Kenya, Lesotho
Africa: Liberia, Libya
Africa: Madagascar, Malawi, Mali, Mauritania, Mauritius, Morocco, Mozambique, Namibia, Niger, Nigeria
Africa: Rwanda, Senegal
Africa: Seychelles, Sierra Leone, Somalia, South Africa, South Sudan, Sudan, Tanzania, Togo, Tunisia
Africa: Uganda, Zambia
Africa: Zimbabwe, Democratic Republic of the Congo, Republic of the Congo, Central African Republic
Africa: Equatorial Guinea
North America: Bahamas, Barbados, Belize, Canada, Costa Rica, Cuba, Dominica, Dominican Republic
North America: El Salvador, Grenada
North America: Guatemala, Haiti, Honduras, Jamaica, Mexico, Nicaragua, Panama, Saint Lucia, United States
South America: Argentina, Bolivia, Brazil, Chile, Colombia, Ecuador, Guyana, Paraguay, Peru, Suriname
South America: Uruguay, Venezuela
Oceania: Australia, Fiji, Kiribati, Nauru, New Zealand, Palau, Papua New Guinea, Samoa
Oceania: Solomon Islands, Tonga, Tuvalu
Oceania: Vanuatu
"""),
    "landmark-country": _grouped("""
France: the Eiffel Tower, the Louvre, Notre-Dame, the Arc de Triomphe, Mont Saint-Michel
France: the Palace of Versailles
United Kingdom: Big Ben, Stonehenge, Tower Bridge, Buckingham Palace, Loch Ness, the Tower of London
United Kingdom: Hadrian's Wall
Italy: the Colosseum, the Leaning Tower of Pisa, the Trevi Fountain, Pompeii, Mount Vesuvius, Mount Etna
Spain: the Sagrada Familia, the Alhambra, the Prado Museum
Germany: the Brandenburg Gate, Neuschwanstein Castle, the Berlin Wall, Cologne Cathedral
Greece: the Acropolis, the Parthenon, Mount Olympus
Egypt: the Great Pyramid of Giza, the Sphinx, the Valley of the Kings, the Suez Canal
United States: the Statue of Liberty, the Golden Gate Bridge, the Grand Canyon, Mount Rushmore
United States: the White House
United States: the Empire State Building, Yellowstone, Times Square, the Hoover Dam, Alcatraz
China: the Great Wall, the Forbidden City, the Terracotta Army, Tiananmen Square
India: the Taj Mahal, the Red Fort, the Gateway of India, the Golden Temple
Japan: Mount Fuji, Tokyo Tower, the Tokyo Skytree
Russia: the Kremlin, Red Square, the Hermitage Museum, Lake Baikal
Australia: the Sydney Opera House, Uluru, the Great Barrier Reef, Bondi Beach
Brazil: Christ the Redeemer, Sugarloaf Mountain, Copacabana
Peru: Machu Picchu, the Nazca Lines
Mexico: Chichen Itza, Teotihuacan
Turkey: Hagia Sophia, the Blue Mosque, Cappadocia, the Grand Bazaar
Jordan: Petra
Cambodia: Angkor Wat
Malaysia: the Petronas Towers
United Arab Emirates: the Burj Khalifa, the Palm Jumeirah
Kenya: the Maasai Mara
Tanzania: Mount Kilimanjaro, the Serengeti
South Africa: Table Mountain, Robben Island
Canada: the CN Tower, Banff
Netherlands: the Anne Frank House, the Rijksmuseum
Denmark: the Little Mermaid, Tivoli Gardens
Austria: Schönbrunn Palace
Czech Republic: Charles Bridge, Prague Castle
Switzerland: the Matterhorn
Ireland: the Cliffs of Moher, the Blarney Stone
Chile: Easter Island
Indonesia: Borobudur, the Komodo National Park
Singapore: Marina Bay Sands
Saudi Arabia: the Kaaba
Belgium: the Atomium
Portugal: the Belem Tower
Iceland: the Blue Lagoon
"""),
    "food-country": _pairs(
        "Spaghetti=Italy; Lasagna=Italy; Gelato=Italy; Risotto=Italy; Tiramisu=Italy; Ramen=Japan;"
        " Tempura=Japan;"
        "Burrito=Mexico; Guacamole=Mexico; Croissant=France; Ratatouille=France; Crepe Suzette=France;"
        " Haggis=United Kingdom;"
        "Bratwurst=Germany; Sauerkraut=Germany; Pretzel=Germany; Gazpacho=Spain; Churro=Spain;"
        " Kebab=Turkey;"
        "Bibimbap=South Korea; Bulgogi=South Korea; Samosa=India; Naan=India; Souvlaki=Greece;"
        " Tzatziki=Greece;"
        "Tom Yum=Thailand; Nasi Goreng=Indonesia; Banh Mi=Vietnam; Injera=Ethiopia; Couscous=Morocco;"
        " Tagine=Morocco;"
        "Empanada=Argentina; Peking Duck=China; Mapo Tofu=China; Hamburger=United States;"
        " Belgian Waffle=Belgium;"
        "Arepa=Venezuela; Smorgasbord=Sweden; Gouda=Netherlands; Beef Stroganoff=Russia; Blini=Russia;"
        " Jerk Chicken=Jamaica"
    ),
}

# Names that a user is likely to ask for; the rest of a long file is filled up with short plain names.
WELL_KNOWN: dict[str, frozenset[str]] = {
    "landmark-country": _names(
        "Bastille;Bilbao;Darmstadt;Kyoto University;Ginza;Munich;Indus River;Manila Bay;Trento;Lahti;Ufa;"
        "Perpignan;Catalonia;"
        "Carpathian Mountains;Istanbul Airport;Pamukkale;Temples of Abu Simbel;Nagoya University;"
        "Vesuvius Observatory;"
        "Gulf of Bothnia;Lleida;Northern Territory;Aventine Hill;Bastia;Opel;Nintendo;Dundalk;Noyon;"
        "Konark Sun temple;"
        "Alte Nationalgalerie;Kamchatka Krai;Grand Mosque of Paris;"
        "Indira Gandhi International Airport"
    ),
    "occupation": _names(
        "Halle Berry;Heath Ledger;Aristotle;Michelangelo;Werner Heisenberg;Whitney Houston;Janet Jackson;"
        "Lou Reed;"
        "H. P. Lovecraft;Johann Wolfgang von Goethe;Eva Longoria;Rashida Jones;Stephen Colbert;"
        "Kazuo Ishiguro;Ciara;"
        "James Fenimore Cooper;Nick Nolte;Karen Gillan;Raj Kapoor;Boethius;Elmore Leonard;Paul McGann;"
        "Jeremy Allen White;"
        "Mary-Kate Olsen;Judy Davis;Annie Proulx;Anna Neagle;Hugh Bonneville;Jane Leeves;George Osborne;"
        "Muhammad Iqbal;"
        "Yanis Varoufakis;Enrique Granados;Augustin-Jean Fresnel;Rowland Hill;Christopher Guest;"
        "Michael Dorn"
    ),
    "instrument": _names(
        "Eric Clapton;Jimi Hendrix;Jimmy Page;Brian May;Elvis Presley;Ray Charles;Lady Gaga;"
        "Paul McCartney;Franz Liszt;"
        "George Gershwin;Thelonious Monk;Count Basie;Wynton Marsalis;Antonio Vivaldi;Itzhak Perlman;"
        "Yehudi Menuhin;"
        "Isaac Stern;Nat King Cole;Philip Glass;Johannes Brahms;Robert Schumann;Edvard Grieg;"
        "Leonard Bernstein;The Edge;"
        "Mark Knopfler;Aretha Franklin;Leonard Cohen;Cat Stevens;Carl Czerny;Fats Waller;Hilary Hahn;"
        "Van Cliburn;Beck;"
        "Ludovico Einaudi;Paul Anka;Randy Newman;Bix Beiderbecke;Dizzy Reed;Tom Waits;Keith Emerson;"
        "Rick Wakeman"
    ),
    "native-language": _names(
        "Marie Curie;Leo Tolstoy;Miguel de Cervantes;Pablo Picasso;Barack Obama;Theodore Roosevelt;"
        "Virginia Woolf;"
        "Arthur Conan Doyle;Franz Kafka;Lionel Messi;Shakira;Novak Djokovic;Vladimir Putin;"
        "Emmanuel Macron;Jean Reno;"
        "Omar Sy;Alexander Pushkin;Blaise Pascal;Jean-Paul Sartre;Brigitte Bardot;Catherine Deneuve;"
        "Andy Murray;Tina Turner;"
        "David Beckham;Virgil;Ovid;Giovanni Boccaccio;Hans Christian Andersen;Marc Chagall;Luc Besson;"
        "Audrey Tautou;"
        "Akira Kurosawa;Bertrand Russell;John Paul II;Hendrik Lorentz;Alex Ferguson;Gwen Stefani;"
        "Anatole France;Al Gore;"
        "Adam Sandler;Gustave Flaubert;Charles Perrault;Edsger W. Dijkstra;Stieg Larsson;Douglas Adams;"
        "Sophie Marceau;"
        "Marcel Marceau;Alain Delon;Jean Dujardin;Norman Rockwell;Michel de Montaigne;"
        "Jean Marais"
    ),
    "company-city": frozenset(
        "Samsung;Nintendo;Rolex;BP;Ericsson;Lenovo;Electrolux;AstraZeneca;ARM Holdings;Interpol;Cadillac;"
        "Smirnoff;EMI;"
        "World Trade Organization;United Airlines;Harvard Medical School;Brown University;"
        "Cirque du Soleil;SoundCloud;"
        "Guinness World Records;McGill University;Karolinska Institute;Commerzbank;Smith & Wesson;Zillow;"
        "Ernst & Young;"
        "Fudan University;Mayo Clinic;Jim Beam;Urban Outfitters;Kroger;FIDE;Polydor Records;Euronext;"
        "Weta Digital;Hooters;"
        "The Weather Channel;Scotiabank;Elsevier;Halliburton;Club Med;Nasdaq AB;WWE;DFDS;"
        "Square Enix Europe"
    ),
}
