"""Short texts of many domains, written for smidgen, to see how a model does outside the domain it was made for."""

from __future__ import annotations

PASSAGES: dict[str, str] = {
    "story": """The ferry was late again, and old Marten had stopped pretending to mind. He sat on the coil of rope \
that nobody had moved since spring and counted the gulls on the customs shed. Eleven this evening, one with a bad leg. \
When the girl came down the steps with her violin case he made room without a word. "Do you think it is coming?" she \
asked. "It always comes," he said. "The question is which day." She laughed, and then she saw that he meant it, and \
she put the case across her knees and looked out to where the fog stood like a second shore.""",
    "contract": """The Supplier shall deliver the Goods to the Purchaser at the Place of Delivery no later than \
thirty (30) calendar days after receipt of a written Order. Risk of loss passes to the Purchaser upon delivery; title \
passes only upon payment in full. If the Supplier fails to deliver within the said period, the Purchaser may, after \
setting a reasonable additional period in writing, terminate the affected Order and claim damages in accordance with \
Section 9. Neither party shall be liable for delays caused by events beyond its reasonable control, provided that it \
notifies the other party without undue delay.""",
    "medicine": """A 64-year-old woman presented with three days of increasing shortness of breath and a dry cough. \
She has a history of hypertension and type 2 diabetes, treated with ramipril and metformin. On examination her heart \
rate was 104 per minute and regular, blood pressure 148/86 mmHg, oxygen saturation 91% on room air. Fine crackles were \
heard over both lung bases, and there was pitting oedema of the ankles. Chest radiography showed an enlarged heart and \
small pleural effusions. Diuretics were started, and an echocardiogram was requested for the following morning.""",
    "recipe": """Heat the oven to 180 degrees. Rub the butter into the flour until it looks like breadcrumbs, then \
stir in the sugar and a pinch of salt. Beat one egg with two spoons of cold milk and add it little by little until the \
dough holds together. Wrap it and let it rest in the fridge for half an hour. Meanwhile peel and slice the apples, \
toss them with lemon juice and cinnamon, and drain them well. Roll the dough out thin, line a tin with it, prick the \
bottom with a fork, fill it with the apples and bake it for forty minutes until the edges are golden.""",
    "news": """The city council voted on Tuesday evening to close the riverside road to cars at weekends from May \
onwards. The plan, which was approved by nineteen votes to twelve, had been debated for almost two years. Shop owners \
along the road had warned of losses, while residents complained of noise and fumes. The mayor said that the trial \
would be judged after six months on the basis of traffic counts and a survey. Buses and ambulances are exempt. The \
opposition called the decision hasty and announced that it would ask for a referendum.""",
    "conversation": """A: Hi, I ordered a kettle last week and it still hasn't turned up. B: Sorry to hear that! \
Could you give me your order number? A: Hang on... it's 40718. B: Thanks. I can see it left our warehouse on Friday. \
The courier tried to deliver it yesterday but nobody was in. A: That's odd, I was home all day. B: I understand. I \
can book a new delivery for tomorrow morning, or you could pick it up at the post office on Mill Street. Which would \
you prefer? A: Tomorrow's fine, but before ten please, I've got to go to work.""",
    "science": """When light passes from air into water its speed falls by about a quarter, and its path bends \
towards the normal of the surface. The ratio of the two speeds is called the refractive index. Because the index \
depends slightly on wavelength, blue light is bent more strongly than red light, which is why a drop of rain spreads \
sunlight into colours. A ray that enters the drop is reflected once at its back and leaves at an angle of about 42 \
degrees to the incoming light. Seen from the ground, all drops that send the same colour to the eye lie on a circle.""",
    "program": """def read_prices(path):
    prices = {}
    with open(path, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            name, _, value = line.partition("=")
            try:
                prices[name.strip()] = float(value)
            except ValueError:
                raise ValueError(f"{path}, line {number}: {value!r} is no price") from None
    return prices


def total(basket, prices):
    return sum(prices[name] * count for name, count in basket.items())
""",
    "German": """Am frühen Morgen war der Markt noch leer, nur der Bäcker räumte schon seine Körbe aus. Die Frau mit \
dem grünen Mantel blieb vor den Äpfeln stehen und fragte, ob sie aus der Gegend seien. "Natürlich", sagte der Mann, \
"mein Bruder hat sie gestern gepflückt." Sie nahm zwei Kilo, bezahlte und ging über die Brücke nach Hause. Dort saß \
die Katze am Fenster. Es begann zu regnen, und bald hörte man nichts mehr als das Rauschen in den Bäumen und ab und \
zu eine Straßenbahn, die um die Ecke bog.""",
    "ledger": """Date,Account,Description,Debit,Credit
2024-03-01,4400,Sale of goods,0.00,1250.00
2024-03-01,1200,Sale of goods,1250.00,0.00
2024-03-04,6310,Office rent March,890.00,0.00
2024-03-04,1200,Office rent March,0.00,890.00
2024-03-07,6815,Paper and toner,74.35,0.00
2024-03-07,1200,Paper and toner,0.00,74.35
2024-03-11,4400,Consulting 6 hours,0.00,720.00
2024-03-11,1400,Consulting 6 hours,720.00,0.00
2024-03-15,6020,Wages,2310.00,0.00
2024-03-15,1200,Wages,0.00,2310.00
""",
}
"""Passages by their domain."""
