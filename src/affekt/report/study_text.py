"""The study as a document: abstract, method, five tables, five figures, limits; and a page for every run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from affekt.report import numbers, quoted, study_plots, study_sentences, study_tables
from affekt.report.corpus_names import corpus_name
from affekt.report.document import SUFFIX, Block, Code, Document, Figure, Heading, Links, Listing, Panel, Paragraph
from affekt.report.run_page import describe_run
from affekt.report.study_answers import answers
from affekt.report.study_sentences import Analyses, abstract
from affekt.results import study_analysis as analysis
from affekt.results.ablation import Ablation
from affekt.results.recipe_choice import CORPORA as CHOICE_CORPORA
from affekt.results.recipe_choice import RecipeChoice
from affekt.results.study import PLAN, PROTOCOLS, Study, remaining
from affekt.results.study_analysis import Analysis, EffectOverCorpora, Secondary
from affekt.results.study_questions import HARD_CLASS, PROPOSALS
from affekt.training.recipes import RECIPES

PAGES = "study"
"""Folder of the pages of runs, beside the document."""

TITLE = "Discriminative features for speech emotion recognition, measured again"
SILENT, CONTRARY = "1076_MTI_SAD_XX", ("1006_TIE_HAP_XX", "1006_TIE_NEU_XX")
"""Recordings of CREMA-D that the plan leaves out: a silent one, and one sound under two labels."""


def describe_study(study: Study, choice: RecipeChoice | None = None, plan: bool = True) -> Document:
    """The report on the runs of a study.

    Args:
        study: runs, and plans of runs.
        choice: the trainings by which the recipe of the encoder was chosen.
        plan: whether to report on the study plan too: its runs, its recipe, departures from it and what is left.
    """
    analyses = {
        (network, protocol): Analysis.of(study, network, protocol)
        for network in analysis.NETWORKS
        for protocol in PROTOCOLS
    }
    secondary = analysis.secondary(study)
    sections = (
        _abstract(study, analyses, secondary),
        _method(study, plan),
        _proposals(analyses),
        _secondary(study, analyses, secondary),
        *((_recipe(choice), _decided(study)) if plan else ()),
        _limits(),
        *((_rest(study),) if plan else ()),
        _pages(study),
    )
    blocks = tuple(block for section in sections for block in section)
    return Document(TITLE, _line(study), blocks, "study")


def run_pages(study: Study, ablations: Sequence[Ablation] = ()) -> list[Document]:
    """A page for every run, in the order of the runs.

    Args:
        study: the study.
        ablations: of the robust recipe, on validation speakers; each goes to the page of its corpus.
    """
    return [describe_run(run, study, ablations) for run in study.runs]


def _line(study: Study) -> str:
    corpora = sorted({run.results.corpus for run in study.runs})
    jobs = numbers.count(sum(len(run.results.jobs) for run in study.runs))
    if not study.runs:
        return "nothing measured yet"
    return f"{len(study.runs)} runs, {jobs} trainings | 5 folds of utterances or of speakers | {', '.join(corpora)}"


def _abstract(study: Study, analyses: Analyses, secondary: Sequence[Secondary]) -> Iterator[Block]:
    yield Heading("Abstract")
    yield Paragraph(abstract(study, analyses, secondary))


def _method(study: Study, plan: bool) -> Iterator[Block]:
    yield Heading("Method")
    if plan:
        yield Paragraph(
            "Comparisons, verdicts and exclusions were fixed before any result of parts A and D was seen. What was "
            "decided "
            "later is listed below, and secondary answers are called so."
        )
        yield Links("Fixed in advance", (("the study plan", "study-plan.md"),))
    yield Paragraph(
        "A proposal is the paper's best setting of it: AM-softmax with s = 10 and m = 0.4, focal loss with "
        "gamma = 2 and alpha = 2, combined attentive pooling. The baseline has softmax and attention. All systems of a "
        "corpus and split share their folds: 55 % of the utterances train, 25 % choose the epoch, 20 % are scored "
        "once. Under random splits speakers are shared between these parts, under speaker splits they are not. UA is "
        "the mean recall of the classes."
    )
    yield Paragraph(
        f"The paper's network reads 40 mel bands: CNN, BLSTM, attention{_parameters(study, 'paper')}. On the encoder, "
        "the paper's BLSTM, poolings and losses read the states of the first layer of Whisper tiny.en, which stays "
        f"frozen{_parameters(study, 'encoder')}: its trainings are short, so that seven corpora with three seeds are "
        "affordable."
    )
    yield Paragraph(
        "Within a corpus, a gain is paired by fold, seeds averaged first, with the corrected resampled t-test "
        "(Nadeau & Bengio 2003). Over corpora, a random-effects meta-analysis combines the gains, each with the "
        "variance of its corrected test: tau² by Paule & Mandel, Hartung-Knapp interval, prediction interval, I². "
        "All intervals are 95 %. Helps or hurts: the interval excludes 0. Smaller than reported: it lies below "
        f"{quoted.CLAIM_POINTS:.0f} points."
    )
    if plan and any(run is not None for _, run in study.parts()):
        yield study_tables.runs_table(study)


def _parameters(study: Study, network: str) -> str:
    """The number of trained parameters of the baseline, as its runs have it."""
    counts = {
        run.summary["systems"][run.baseline]["parameters"]
        for run in study.runs
        if run.network == network and run.baseline
    }
    return f" ({' or '.join(map(numbers.count, sorted(counts)))} trained parameters)" if counts else ""


def _proposals(analyses: Analyses) -> Iterator[Block]:
    yield Heading("Do the three proposals help?")
    if any(estimate.combined for each in analyses.values() for estimate in each.proposals()):
        yield study_tables.headline_table(analyses)
        yield Paragraph(study_sentences.power(analyses))
    for number, protocol in enumerate(PROTOCOLS, start=1):
        rows = {
            network: each.proposals()
            for network in analysis.NETWORKS
            if (each := analyses[network, protocol]).runs and any(row.corpora for row in each.proposals())
        }
        if rows:
            drawing = study_plots.forest(rows, list(PROPOSALS), "UA gain (points)", (0.0, quoted.CLAIM_POINTS))
            yield Figure(
                f"Figure {number}. Gain of each proposal, {protocol} splits. Squares: corpora with 95 % intervals. "
                "Diamonds: over corpora, with the prediction interval as a thin line. Dashed: the 4 points reported. "
                "Wider intervals of the paper's network run out of the frame.",
                (Panel(f"study-forest-{protocol}", f"Forest plot, {protocol} splits", drawing),),
            )
    table = study_tables.corpora_table(analyses)
    if table.rows:
        yield table


def _secondary(study: Study, analyses: Analyses, secondary: Sequence[Secondary]) -> Iterator[Block]:
    yield Heading("Secondary questions")
    if not secondary:
        return
    if found := answers(secondary):
        yield Listing(
            "Answers on the encoder, over corpora, with 95 % intervals that are not corrected for their number",
            tuple(found),
        )
    yield study_tables.secondary_table(secondary)
    gaps = {network: [gap] for network in analysis.NETWORKS if (gap := analysis.flattery(study, network)).corpora}
    if gaps:
        drawing = study_plots.forest(gaps, ["baseline"], "UA, random minus speaker (points)")
        yield Figure(
            "Figure 3. What a random split flatters: UA of the baseline under random minus speaker splits. Intervals "
            "of corpora from drawing speakers.",
            (Panel("study-flattery", "Random minus speaker splits", drawing),),
        )
    yield from _happy(analyses)
    yield from _compactness(analyses)


def _happy(analyses: Analyses) -> Iterator[Block]:
    rows: dict[str, list[EffectOverCorpora]] = {}
    for network in analysis.NETWORKS:
        own = [analyses[network, protocol].happy() for protocol in PROTOCOLS]
        if any(estimate.corpora for estimate in own):
            rows[network] = own
    if rows:
        drawing = study_plots.forest(rows, [f"{protocol} splits" for protocol in PROTOCOLS], "recall gain (points)")
        yield Figure(
            f"Figure 4. Recall of {HARD_CLASS} under focal loss minus under softmax. The paper's Figure 2 has a "
            f"relative gain of up to {quoted.HAPPY_RELATIVE_PERCENT:.0f} % on one corpus.",
            (Panel("study-happy", f"Recall of {HARD_CLASS} under focal loss", drawing),),
        )


def _compactness(analyses: Analyses) -> Iterator[Block]:
    panels = {
        f"{protocol} splits": points
        for protocol in PROTOCOLS
        if (points := analyses["encoder", protocol].compactness_points())
    }
    if panels:
        yield Figure(
            "Figure 5. Compactness and recognition on the encoder: change of the Fisher ratio (scatter of the deep "
            "features between classes over scatter within) and gain in UA, both against the baseline; one point per "
            "corpus.",
            (Panel("study-compactness", "Fisher ratio and UA", study_plots.compactness(panels)),),
        )


def _recipe(choice: RecipeChoice | None) -> Iterator[Block]:
    yield Heading("Recipe of part D")
    used = RECIPES["encoder"].train.learning_rate
    rule = (
        "The learning rate is the only setting that was chosen, for the baseline alone, by mean UA on the validation "
        f"parts of {' and '.join(corpus_name(corpus) for corpus in CHOICE_CORPORA)}, speakers held out, one seed"
    )
    if choice is None or not choice.rates:
        yield Paragraph(
            f"{rule}. Part D uses {used:g}. The trainings of this choice are not in results/encoder-recipe."
        )
        return
    rows = ", ".join(f"{numbers.percent(choice.mean(rate))} % at {rate:g}" for rate in choice.rates)
    if choice.chosen is None:
        yield Paragraph(
            f"{rule}: {rows}. Not all rates of the plan are in results/encoder-recipe. Part D uses {used:g}."
        )
        return
    agrees = "which part D uses" if choice.chosen == used else f"but part D uses {used:g}, a departure from the plan"
    yield Paragraph(f"{rule}: {rows}. The rule chooses {choice.chosen:g}, {agrees}. (python scripts/encoder_recipe.py)")


def _decided(study: Study) -> Iterator[Block]:
    yield Heading("Decided after the plan")
    items = [
        "EmoDB enters the analyses of the paper's network with part B, and with part C's run while part B is missing. "
        "Part C's run of the four headline systems had been seen when this was decided.",
        "Secondary answers are combined over corpora as Table 4 states; the plan fixed this for gains alone.",
        "The correlation within each system is an addition: between systems, a loss changes the scatter of the "
        "features by itself.",
        "The three cells of loss and pooling that part D's plan leaves out are part of its command.",
    ]
    if departure := _not_left_out(study):
        items.append(departure)
    yield Listing("Choices that the plan does not fix, and departures from it", tuple(items))


def _not_left_out(study: Study) -> str:
    """The recordings of CREMA-D that the plan leaves out and a run has."""
    ids = frozenset[str]().union(*(run.utterances for run in study.runs if run.results.corpus == "crema-d"))
    kept = [name for name in (SILENT, *CONTRARY) if name in ids]
    if not kept:
        return ""
    return (
        f"A departure from the plan: {', '.join(kept)} of CREMA-D, silent or one sound under two labels, were not left "
        f"out; they are {len(kept)} of {numbers.count(len(ids))} utterances."
    )


def _limits() -> Iterator[Block]:
    yield Heading("Limits")
    yield Listing(
        "Limits of these figures",
        (
            "All corpora are acted. The paper's corpus, IEMOCAP, is missing, because its license is personal; "
            "affekt reproduce runs the same experiment on it.",
            "A gain on the encoder is about the paper's losses and poolings on strong features; it does not say what "
            "they do to features that are learnt with them.",
            "The variance of a corpus comes from five folds, and the meta-analysis takes it as known. The corrected "
            "test takes the correlation of overlapping training sets as given.",
            "Speaker splits of a corpus with six to ten speakers have test parts of one or two speakers.",
            "Intervals from drawing few speakers are somewhat too narrow.",
        ),
    )


def _rest(study: Study) -> Iterator[Block]:
    yield Heading("Not run, and how to run it")
    left = [part for part, run in study.parts() if (row := remaining(part, run))["finished"] < row["expected"]]
    if left:
        yield study_tables.rest_table(study)
    yield Paragraph(
        "Every run of the plan resumes by the same command, which also started it. AFFEKT_ENCODER names the folder of "
        "the encoder's weights; CORPORA holds the releases."
    )
    yield Code("\n".join(_commands()))
    yield Paragraph("A run, finished or not, is published and enters this page by")
    yield Code(
        "python scripts/collect_results.py runs/emodb-random-encoder results/emodb-random-encoder\n"
        "python scripts/study.py\npython scripts/readme.py"
    )


def _commands() -> Iterator[str]:
    """The commands of all runs of the plan; those of part D, which differ in corpus and protocol alone, as a loop."""
    for corpus in sorted({part.corpus for part in PLAN}):
        yield f"affekt prepare {corpus} CORPORA/{corpus} -o {corpus}.csv --labels iemocap4"
    yield from (part.command for part in PLAN if part.part != "D")
    looped = [part for part in PLAN if part.part == "D"]
    one = replace(looped[0], corpus="$corpus", protocol="$split")
    yield f"for corpus in {' '.join(dict.fromkeys(part.corpus for part in looped))}; do"
    yield f"  for split in {' '.join(dict.fromkeys(part.protocol for part in looped))}; do"
    yield f"    {one.command}"
    yield "  done\ndone"


def _pages(study: Study) -> Iterator[Block]:
    yield Heading("Appendix")
    if study.runs:
        links = tuple((f"{run.name}: {run.results.protocol_line}", f"{PAGES}/{run.name}{SUFFIX}") for run in study.runs)
        yield Links("A page for each run, with all its systems", links)
