"""One HTML file of results and dialogues, which needs no network: ``dialog-gym report PATH...``.

============  =====================================================================================
``sources``   what lies in the given paths: results of suites, runs, recorded dialogues; what is broken
``board``     tables and curves of the results, as plain JSON values
``payload``   the dialogues, as plain JSON values; control characters made visible
``page``      the file: style, scripts and data in one, under a policy that forbids the network
``command``   the command
============  =====================================================================================

The page is made of ``report.html`` and ``report.css``, and of the scripts ``text.js`` (nodes, numbers, search terms),
``charts.js`` (SVG), ``board_charts.js`` and ``board.js`` (results), ``transcript.js`` (one dialogue), ``reader.js``
(list, filters, search) and ``report.js`` (start, keys, tabs). There is no build step and no framework; they are
formatted by ``prettier --print-width 119``.
"""

from dialog_gym.report.page import write_page
from dialog_gym.report.payload import payload
from dialog_gym.report.sources import Sources, read_sources

__all__ = ["Sources", "payload", "read_sources", "write_page"]
