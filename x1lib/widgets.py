"""The cost calculator: a pure function below, ipywidgets over it; no Output widget.

An Output widget can hang a notebook that is run without a browser, so pictures go into an Image
and words into an HTML widget.
"""

from __future__ import annotations

import html
import math
import warnings
from dataclasses import dataclass

import ipywidgets

from x1lib import X1Error
from x1lib.economics import GPUS, PROVIDERS, Estimate, StalePrice, estimate
from x1lib.figures import money
from x1lib.shapes import SHAPES

OWN_PRICE, OWN_SIZE = "your own price", "N of your own (6ND)"
TOKENS, CHINCHILLA, FILL = "D tokens", "Chinchilla: 20 a parameter", "fill the hours"
_COMPLAINT = "<p style='color:#b00020;max-width:46em'>{}</p>"
_SENTENCE = "<p style='font-size:1.15em;margin:0.4em 0 0 0'>{}</p>"
_NOTES = "<p style='color:#666;font-size:0.85em;margin:0;max-width:60em'>{}</p>"


@dataclass(frozen=True)
class Answer:
    """What the calculator shows: a sentence, notes, a picture; made is None where it complains."""

    sentence: str
    notes: tuple[str, ...] = ()
    png: bytes = b""
    made: Estimate | None = None

    def as_html(self) -> str:
        """The words as HTML; a complaint is coloured."""
        if self.made is None:
            return _COMPLAINT.format(html.escape(self.sentence))
        notes = "; ".join(html.escape(note) for note in self.notes)
        return _SENTENCE.format(html.escape(self.sentence)) + _NOTES.format(notes)


def calculate(
    card: str,
    provider: str,
    usd_per_gpu_hour: float,
    spot: bool,
    model: str,
    n_params: float,
    rule: str,
    n_tokens: float,
    hours: float,
    n_gpus: int,
    mfu: float,
    pue: float,
    usd_per_kwh: float,
    budget_usd: float = 50.0,
) -> Answer:
    """Price one run as the calculator's controls describe it.

    model: a key of SHAPES or OWN_SIZE, which takes n_params. rule: TOKENS, CHINCHILLA or FILL, of
    which the first takes n_tokens and the last hours. provider: a key of PROVIDERS or OWN_PRICE,
    which takes usd_per_gpu_hour. Never raises an X1Error: its sentence is the answer.
    """
    run: dict[str, object] = {"gpu": card, "n_gpus": n_gpus, "mfu": mfu, "pue": pue}
    run |= {"n_params": n_params} if model == OWN_SIZE else {"shape": model}
    given = {TOKENS: {"n_tokens": n_tokens}, CHINCHILLA: {"n_tokens": "chinchilla"}}
    run |= given.get(rule, {"hours": hours})
    if provider == OWN_PRICE:
        run |= {"usd_per_gpu_hour": usd_per_gpu_hour, "usd_per_kwh": usd_per_kwh}
    else:
        run |= {"provider": provider, "spot": spot}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", StalePrice)  # the notes say it
            made = estimate(**run)
        return Answer(made.sentence(budget_usd), made.notes, money.bill_png(made, budget_usd), made)
    except X1Error as error:
        return Answer(str(error))


class CostCalculator(ipywidgets.VBox):
    """Controls over `calculate`, with the answer in words and the figure under them.

    Keyword arguments set controls at the start, by the names of calculate's parameters.
    """

    def __init__(self, **start: object) -> None:
        self.controls = _controls()
        unknown = start.keys() - self.controls.keys()
        if unknown:
            known = ", ".join(self.controls)
            raise X1Error(f"no control named {', '.join(sorted(unknown))}; there are {known}")
        for name, value in start.items():
            self.controls[name].value = value
        self.words, self.picture = ipywidgets.HTML(), ipywidgets.Image(format="png")
        self.picture.layout.max_width = "800px"
        self.picture.add_class("x1-cost-figure")
        self.words.add_class("x1-cost-words")
        super().__init__([_grid(self.controls), self.words, self.picture])
        for control in self.controls.values():
            control.observe(self._update, names="value")
        self._update()

    def __repr__(self) -> str:
        return "The calculator is live where a kernel runs; the picture below shows one setting."

    def _update(self, change: object = None) -> None:
        values = {name: control.value for name, control in self.controls.items()}
        self.answer = calculate(**values)
        self.words.value = self.answer.as_html()
        self.picture.value = self.answer.png
        self.picture.layout.display = None if self.answer.png else "none"
        # What another control has made idle is greyed out.
        own = values["provider"] == OWN_PRICE
        idle = {
            "n_params": values["model"] != OWN_SIZE,
            "n_tokens": values["rule"] != TOKENS,
            "hours": values["rule"] != FILL,
            "usd_per_gpu_hour": not own,
            "usd_per_kwh": not own,
            "spot": own,
        }
        for name, is_idle in idle.items():
            self.controls[name].disabled = is_idle


def _controls() -> dict[str, ipywidgets.Widget]:
    """The controls by the name of the parameter they set; ranges clamp what is typed."""
    w = ipywidgets
    providers = [(name, key) for key, name in PROVIDERS.items()] + [(OWN_PRICE, OWN_PRICE)]
    shapes = [*SHAPES, OWN_SIZE]
    made = {
        "card": w.Dropdown(options=list(GPUS), value="A100-80GB-SXM", description="card"),
        "provider": w.Dropdown(options=providers, value=OWN_PRICE, description="price of"),
        "usd_per_gpu_hour": w.BoundedFloatText(1.10, min=0, max=100, step=0.05, description="$/h"),
        "spot": w.Checkbox(False, description="spot", indent=False),
        "model": w.Dropdown(options=shapes, value="50m", description="model"),
        "n_params": _log_slider(7e9, 1e6, 3e12, "N"),
        "rule": w.Dropdown(options=[TOKENS, CHINCHILLA, FILL], value=TOKENS, description="tokens"),
        "n_tokens": _log_slider(5e9, 1e7, 1e14, "D"),
        "hours": w.FloatSlider(24, min=0.5, max=240, step=0.5, description="hours"),
        "n_gpus": w.BoundedIntText(1, min=1, max=100_000, description="cards"),
        "mfu": w.FloatSlider(0.40, min=0.05, max=0.75, step=0.01, description="MFU"),
        "pue": w.FloatSlider(1.0, min=1.0, max=2.0, step=0.05, description="PUE"),
        "usd_per_kwh": w.BoundedFloatText(0, min=0, max=2, step=0.01, description="$/kWh"),
        "budget_usd": w.BoundedFloatText(50, min=1, max=1e9, step=10, description="budget $"),
    }
    return made


def _log_slider(value: float, low: float, high: float, name: str) -> ipywidgets.Widget:
    """A logarithmic slider of 20 steps a decade, laid so that the starting value is one of them.

    A browser moves a value that lies between two steps, and the answer with it.
    """
    at = math.log10(value)
    least = at - math.floor(20 * (at - math.log10(low))) / 20
    most = at + math.floor(20 * (math.log10(high) - at)) / 20
    return ipywidgets.FloatLogSlider(
        value, min=least, max=most, step=0.05, description=name, readout_format=".2s"
    )


def _grid(controls: dict[str, ipywidgets.Widget]) -> ipywidgets.Widget:
    for control in controls.values():
        control.style.description_width = "60px"
        control.layout.width = "300px"
    grid = ipywidgets.Layout(grid_template_columns="repeat(auto-fit, 310px)", max_width="960px")
    return ipywidgets.GridBox(list(controls.values()), layout=grid)
