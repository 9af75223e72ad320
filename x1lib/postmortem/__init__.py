"""Why a loss spiked: a run rewound, its evidence, a cause, recoveries tried, and the report."""

from x1lib.postmortem.analysis import Analysis, analyse, recover
from x1lib.postmortem.classifier import CAUSES, Features, Verdict, classify, features, find_onset
from x1lib.postmortem.corpus import Corpus
from x1lib.postmortem.cures import CURES, Cure, Incident
from x1lib.postmortem.evidence import Detail, examine
from x1lib.postmortem.finding import find_run, find_spike
from x1lib.postmortem.logs import LoggedSpike, read_log
from x1lib.postmortem.replay import Outcome, Theatre, better, noise_floor, replay
from x1lib.postmortem.report import write
from x1lib.postmortem.rewound import Changes, PostmortemError, Rewound
from x1lib.postmortem.trace import Trace, batch_excess, watch

__all__ = [
    "CAUSES",
    "CURES",
    "Analysis",
    "Changes",
    "Corpus",
    "Cure",
    "Detail",
    "Features",
    "Incident",
    "LoggedSpike",
    "Outcome",
    "PostmortemError",
    "Rewound",
    "Theatre",
    "Trace",
    "Verdict",
    "analyse",
    "batch_excess",
    "better",
    "classify",
    "examine",
    "features",
    "find_onset",
    "find_run",
    "find_spike",
    "noise_floor",
    "read_log",
    "recover",
    "replay",
    "watch",
    "write",
]
