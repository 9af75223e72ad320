"""fit.json and prediction.md: what a sweep found, in numbers and in words."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from x1lib.economics.wording import short
from x1lib.scaling import ScalingError, identifiability
from x1lib.sweep import fitting
from x1lib.sweep.design import FIT, Design
from x1lib.sweep.fitting import DEFAULT_N, ONE_BILLION, Fitted, fit_points
from x1lib.sweep.joint import Joint, fit_joint
from x1lib.sweep.points import COUNTS, Point, finished, noise_floor
from x1lib.sweep.sealing import GOAL, Reveal
from x1lib.tracking import write_json

FIT_JSON, PREDICTION_MD = "fit.json", "prediction.md"


FORMS = {"additive": fit_points, "joint": fit_joint}  # Hoffmann's form, Kaplan's
Fits = dict[str, dict[str, Fitted | Joint]]  # by form, by count of N


def fits_of(points: list[Point], counts=tuple(COUNTS)) -> tuple[Fits, dict[str, str]]:
    """A fit of each form for each count of N, and why there is none for the others."""
    found: Fits = {form: {} for form in FORMS}
    missing = {}
    for form, fit in FORMS.items():
        for n in counts:
            try:
                found[form][n] = fit(points, n)
            except ScalingError as error:
                missing[f"{form}, {n}"] = str(error)
    return found, missing


def best_of(fits: Fits) -> list[Fitted | Joint]:
    """The fits with N as everywhere on the page, the form that leaves less first."""
    mine = [by_n[DEFAULT_N] for by_n in fits.values() if DEFAULT_N in by_n]
    return sorted(mine, key=lambda fit: fit.spread)


def bars(design: Design, points: list[Point], fits: Fits, lr_runs: Path | None) -> dict:
    """D_opt(1B) [tokens] with its bars: the noise, which N counts, the learning rate, which form.

    Each is (low, high), or None with a status that says why. All but the last are of the form that
    leaves less.
    """
    best = best_of(fits)[0]
    by_n = {n: fit.optimal_tokens() for n, fit in fits[best.form].items()}
    by_form = {fit.form: fit.optimal_tokens() for fit in best_of(fits)}
    found = {
        "form": best.form,
        "optimal_tokens_1e9": by_n[DEFAULT_N],
        "noise": best.interval_optimal_tokens(),
        "which_n": _ends(by_n.values()),
        "by_n": by_n,
        "which_form": _ends(by_form.values()),
        "by_form": by_form,
        "learning_rate": None,
        "learning_rate_status": "not measured: no LR x batch sweep of these widths",
    }
    if lr_runs is not None and lr_runs.exists():
        lost = fitting.losses_by_lr(lr_runs, design.recipe.lr, design.recipe.base_width)
        try:
            other = FORMS[best.form](fitting.tuned(points, lost), DEFAULT_N, 2).optimal_tokens()
        except ScalingError as error:
            found["learning_rate_status"] = str(error)
        else:
            found["learning_rate"] = _ends([by_n[DEFAULT_N], other]) if other else None
            found["learning_rate_status"] = "measured at one token count" if other else "no optimum"
            found["lost_by_width"] = lost
    return found


def _ends(values) -> tuple[float, float] | None:
    known = [value for value in values if value]
    return (min(known), max(known)) if known else None


def summary(
    design: Design,
    points: list[Point],
    fits: Fits,
    missing: dict[str, str],
    reveals: list[Reveal],
    lr_runs: Path | None,
) -> dict:
    """Everything that fit.json holds."""
    sigma, freedom = noise_floor(points)
    done, best = finished(points), best_of(fits)
    found = {
        "design": asdict(design) | {"flops": design.flops},
        "n_points": {"finished": len(done), "of": len(points)},
        "noise_floor": {"sd_log_loss": sigma, "freedom": freedom},
        "form": best[0].form if best else None,
        "fits": {n: _fit_json(fit) for n, fit in fits["additive"].items()},
        "joint_fits": {n: _joint_json(fit) for n, fit in fits["joint"].items()},
        "no_fit": missing,
        "heldout": [
            asdict(one)
            | {"error": one.error, "ruler_error": one.ruler_error, "inside": one.inside}
            | {"other_error": one.other_error}
            for one in reveals
        ],
        "heldout_goal": _goal(reveals),
        "prediction_1e9": bars(design, done, fits, lr_runs) if best else None,
    }
    if best:
        known = identifiability(
            [p.n_total for p in done], [p.tokens for p in done], sigma=best[0].own_noise
        )
        found["identifiability"] = asdict(known)
    return found


def _fit_json(fit: Fitted) -> dict:
    names = ("E", "A", "alpha", "B", "beta", "a")
    return {
        "law": asdict(fit.law),
        "a": fit.law.a,
        "objective": fit.fit.objective,
        "converged": fit.fit.converged,
        "n_starts_agreeing": f"{fit.fit.n_starts_agreeing} of {fit.fit.n_polished}",
        "rms_log_residual": fit.rms,
        "own_noise": fit.own_noise,
        "bootstrap": fit.refits.kind,
        "share_converged": fit.refits.share_converged,
        "sigma_point": fit.refits.sigma_point,
        "sigma_trunk": fit.refits.sigma_trunk,
        "intervals_95": {name: fit.refits.interval(name) for name in names},
        "optimal_tokens_1e9": fit.optimal_tokens(),
        "interval_optimal_tokens_1e9": fit.interval_optimal_tokens(),
        "residuals": {p.run_id: float(r) for p, r in zip(fit.points, fit.fit.residuals)},
    }


def _joint_json(fit: Joint) -> dict:
    return {
        "law": asdict(fit.law),
        "rms_log_residual": fit.rms,
        "own_noise": fit.own_noise,
        "optimal_tokens_1e9": fit.optimal_tokens(),
        "interval_optimal_tokens_1e9": fit.interval_optimal_tokens(),
        "residuals": {p.run_id: float(r) for p, r in zip(fit.points, fit.residuals)},
    }


def _goal(reveals: list[Reveal]) -> dict | None:
    if not reveals:
        return None
    worst = max(abs(one.error) for one in reveals)
    ours = sum(abs(one.error) for one in reveals) / len(reveals)
    rulers = sum(abs(one.ruler_error) for one in reveals) / len(reveals)
    return {
        "largest_error": worst,
        "mean_error": ours,
        "mean_error_of_ruler": rulers,
        "within_half_a_percent": worst <= GOAL,
        "all_inside": all(one.inside for one in reveals),
        "better_than_ruler": ours < rulers,
        "all_sealed_before": all(one.sound for one in reveals),
    }


def write_answers(out: Path, found: dict, words: str) -> None:
    write_json(out / FIT_JSON, found)
    (out / PREDICTION_MD).write_text(words, encoding="utf-8")


# ---------------------------------------------------------------------------------- the words


def billions(value: float | None) -> str:
    """Tokens as a person says them."""
    if value is None:
        return "no optimum"
    if value == float("inf"):
        return "without end"
    return short(value) if value < 1e15 else f"{value:.1e}"


def _span(pair) -> str:
    if pair is None:
        return "not known"
    low, high = pair
    if low <= 0 and high == float("inf"):
        return "not determined: some refits have no optimum"
    return f"{billions(low)} to {billions(high)} tokens"


def words_of(design: Design, points: list[Point], found: dict, bytes_per_token: float) -> str:
    """prediction.md. bytes_per_token: of the text that was read."""
    bar, done = found["prediction_1e9"], finished(points)
    if bar is None:
        why = "; ".join(found["no_fit"].values()) or "too few runs were finished"
        return f"# No prediction\n\n{len(done)} of {len(points)} runs finished. {why}.\n"
    best = bar["optimal_tokens_1e9"]
    largest = max(p.n_total for p in done)
    lines = [
        "# What these runs predict for 1B parameters",
        "",
        f"Fitted to {len(done)} of {len(points)} runs: {len({p.shape for p in done})} sizes up to"
        f" {largest:,} parameters, {design.tokens[0]:,} to {design.tokens[-1]:,} tokens. Written"
        " before any published answer was looked at.",
        "",
        _headline(best, bytes_per_token),
        "",
        "| what could be otherwise | D_opt(1B) |",
        "|---|---|",
        f"| noise of seeds and trunks, 95% | {_span(bar['noise'])} |",
        f"| which N: {', '.join(bar['by_n'])} | {_span(bar['which_n'])} |",
        f"| which form of the law: {', '.join(bar['by_form'])} | {_span(bar['which_form'])} |",
        f"| the learning rate at each width ({bar['learning_rate_status']}) |"
        f" {_span(bar['learning_rate'])} |",
        "",
        *_forms(found),
        f"Noise floor between seeds: {_percent(found['noise_floor']['sd_log_loss'])}.",
        "",
        *_heldout_words(found),
        "## What this cannot say",
        "",
        *_limits(design, points, found, largest),
    ]
    return "\n".join(lines) + "\n"


def _headline(best: float | None, bytes_per_token: float) -> str:
    if best is None:
        return "**These points show no optimum: an exponent of the fitted law is not above 0.**"
    tokens, size = billions(best), billions(best * bytes_per_token)
    of = f"N = all parameters; {bytes_per_token:.2f} bytes a token"
    return f"**D_opt(1B) = {tokens} tokens, {size} bytes** ({of})."


def _forms(found: dict) -> list[str]:
    """Each form with what it leaves; the one that the number and its bars are of stands first."""
    lines = []
    for form in sorted(FORMS, key=lambda one: one != found["form"]):
        fits = found["fits" if form == "additive" else "joint_fits"]
        if DEFAULT_N in fits:
            fit, law = fits[DEFAULT_N], fits[DEFAULT_N]["law"]
            if form == "additive":
                text = f"E + A / N^alpha + B / D^beta: E {law['E']:.3f}, alpha {law['alpha']:.3f},"
                text += f" beta {law['beta']:.3f}"
            else:
                text = "((Nc / N)^(aN / aD) + Dc / D)^aD: "
                text += f"aN {law['alpha_n']:.3f}, aD {law['alpha_d']:.3f}"
            lines.append(f"- {form}, L = {text}; residual {fit['rms_log_residual']:.2%}")
    return [*lines, ""]


def _percent(share: float | None) -> str:
    return "not measured (one seed)" if share is None else f"{share:.2%}"


def _signed(share: float | None) -> str:
    return "-" if share is None else f"{share:+.2%}"


def _heldout_words(found: dict) -> list[str]:
    goal = found["heldout_goal"]
    if goal is None:
        return ["The largest size was not trained: nothing held out has tested this law.", ""]
    rows = [
        f"| {one['tokens']:,} | {one['loss']:.3f} ({one['low']:.3f} to {one['high']:.3f}) |"
        f" {one['measured']:.3f} | {one['error']:+.2%} | {_signed(one['other_error'])} |"
        f" {one['ruler_error']:+.2%} |"
        for one in found["heldout"]
    ]
    said = "every prediction was sealed before its run"
    if not goal["all_sealed_before"]:
        said = "NOT every prediction was sealed before its run"
    return [
        "## The largest size, predicted first",
        "",
        f"The form was chosen by the fitted runs: {found['heldout'][0]['form']}.",
        "",
        "| tokens | predicted (95%) | measured | its error | of the other form | of a ruler |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Goal, 0.5%: {'met' if goal['within_half_a_percent'] else 'missed'}; inside its interval:"
        f" {sum(one['inside'] for one in found['heldout'])} of {len(rows)}; better than a straight"
        f" line through the other sizes: {'yes' if goal['better_than_ruler'] else 'no'}; {said}.",
        "",
    ]


def _limits(design: Design, points: list[Point], found: dict, largest: int) -> list[str]:
    lines = [
        f"- **1B is {ONE_BILLION / largest:,.0f} times the largest model here.** A law fitted over"
        f" a factor of {largest / min(p.n_total for p in points):.0f} in N says little so far out,"
        " and none of the bars holds what changes on the way: the text, the depth, the batch."
    ]
    known = found["identifiability"]
    if known["saturated_in_n"]:
        lines.append("- Three sizes: they cannot tell which N is right; every count fits.")
    floor = found["noise_floor"]["sd_log_loss"]
    for form, fits in (("additive", found["fits"]), ("joint", found["joint_fits"])):
        rms = fits[DEFAULT_N]["rms_log_residual"] if DEFAULT_N in fits else 0.0
        if floor and rms > 1.5 * floor:
            lines.append(
                f"- **The {form} form does not hold here.** It misses its own points by {rms:.2%},"
                f" and seeds differ by {floor:.2%}: look at where the residuals bend. An interval"
                " that counts noise does not count that."
            )
    low, high = found["prediction_1e9"]["noise"]
    if low <= 0 or high == float("inf"):
        lines.append(
            "- Some refits have no optimum, so the noise bar has no end: these points do not"
            " determine D_opt(1B)."
        )
    unfinished = [p for p in points if not p.is_finished]
    if unfinished:
        lines.append(f"- {len(unfinished)} runs are missing, such as {unfinished[0].run_id}.")
    if design.replicated == 0 or design.seeds == 1:
        lines.append("- One seed a size: there is no noise floor to judge a difference by.")
    if len(finished(points, FIT)) < 15:
        lines.append("- Fewer than 15 points carry five unknowns.")
    return lines
