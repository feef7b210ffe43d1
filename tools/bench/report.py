# SPDX-License-Identifier: BSD-2-Clause
"""usage: report.py HEADER RESULTS OUTPUT

Writes the tables of RESULTS (tables.py) as one static page: no network, no script. HEADER is text,
"Name: value" on each line. The page is well-formed XML too, so that any parser can check it.
"""
import math
import sys
from html import escape

import tables

STYLE = """
:root { color-scheme: light dark; --back: #fff; --text: #1a1a1a; --soft: #595959; --line: #c8c8c8;
  --ours: #0072b2; --peer: #b34700; --limit: #595959; }
@media (prefers-color-scheme: dark) { :root { --back: #16181b; --text: #ececec; --soft: #a9a9a9;
  --line: #484c52; --ours: #56b4e9; --peer: #e69f00; --limit: #a9a9a9; } }
body { background: var(--back); color: var(--text); font: 1rem/1.5 system-ui, sans-serif;
  max-width: 64rem; margin: 0 auto; padding: 1rem; }
h2 { margin-top: 3rem; font-size: 1.25rem; }
nav ul { columns: 20rem; }
a { color: var(--ours); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; }
caption { text-align: left; color: var(--soft); }
th, td { padding: 0.2rem 0.7rem; border-bottom: 1px solid var(--line); text-align: left; }
th[scope=row] { font-weight: normal; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; font-size: 0.85rem; }
figure { margin: 1.5rem 0; }
figcaption { color: var(--soft); }
svg { max-width: 100%; height: auto; display: block; }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .soft { fill: var(--soft); }
.grid { stroke: var(--line); }
.ours { stroke: var(--ours); fill: var(--ours); }
.peer { stroke: var(--peer); fill: var(--peer); }
.limit { stroke: var(--limit); fill: var(--back); stroke-width: 2; }
.range { stroke-width: 2; }
"""

WIDTH, LABELS, RIGHT, ROW, TOP = 880, 300, 110, 24, 10


def kind(key):
    """ours, peer, or the limit that no monitor can pass."""
    name = key[0].split()[0]
    return {"skep": "ours", "floor": "limit", "fio": "limit", "host": "limit"}.get(name, "peer")


def ticks(top):
    """Round numbers from 0 to at least `top`."""
    if top <= 0:
        return [0, 1]
    rough = top / 5
    unit = 10 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 5, 10) if m * unit >= rough)
    return [i * step for i in range(math.ceil(top / step - 1e-9) + 1)]


def number(value):
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def mark(which, x, y):
    """A shape of its own for each kind, so that it is told without its colour."""
    if which == "ours":
        return f'<circle class="ours" cx="{x:.1f}" cy="{y}" r="5.5"/>'
    if which == "peer":
        return f'<rect class="peer" x="{x - 4.5:.1f}" y="{y - 4.5}" width="9" height="9"/>'
    return (f'<path class="limit" d="M{x:.1f} {y - 6} l6 6 l-6 6 l-6 -6 z"/>')


def plot(table, index, ident):
    metric = table.metrics[index]
    rows = [r for r in table.rows if r["samples"][index]]
    if not rows:
        return ""
    marks = ticks(max(max(r["samples"][index]) for r in rows))
    height = TOP + ROW * len(rows) + 34

    def at(value):
        return LABELS + (WIDTH - LABELS - RIGHT) * value / marks[-1]

    told = "; ".join(f"{label(r)} {metric.form.format(tables.middle(r['samples'][index]))}"
                     for r in rows)
    out = [f'<figure><svg viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img" '
           f'aria-labelledby="{ident}t {ident}d"><title id="{ident}t">{escape(metric.name)}: '
           f'{escape(table.title)}</title><desc id="{ident}d">Medians: {escape(told)}.</desc>']
    bottom = TOP + ROW * len(rows)
    for value in marks:
        x = at(value)
        out.append(f'<line class="grid" x1="{x:.1f}" y1="{TOP}" x2="{x:.1f}" y2="{bottom}"/>'
                   f'<text class="soft" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">'
                   f'{number(value)}</text>')
    for n, row in enumerate(rows):
        values, which, y = row["samples"][index], kind(row["key"]), TOP + ROW * n + ROW // 2
        low, mid, high = min(values), tables.middle(values), max(values)
        out.append(f'<text x="{LABELS - 12}" y="{y + 4}" text-anchor="end">{escape(label(row))}</text>'
                   f'<line class="range {which}" x1="{at(low):.1f}" y1="{y}" x2="{at(high):.1f}" '
                   f'y2="{y}"/>' + mark(which, at(mid), y) +
                   f'<text x="{WIDTH - 4}" y="{y + 4}" text-anchor="end">'
                   f'{escape(metric.form.format(mid))}</text>')
    out.append(f'</svg><figcaption>{escape(metric.name)}: median and range; '
               f'{"less" if metric.better == "less" else "more"} is better.</figcaption></figure>')
    return "".join(out)


def label(row):
    return ", ".join(k for k in row["key"] if k)


def html_table(table):
    head = "".join(f'<th scope="col">{escape(k)}</th>' for k in table.keys)
    head += '<th scope="col">measured</th>' + "".join(
        f'<th scope="col" class="n">{t}</th>' for t in ("min", "median", "max", "runs")) + \
        f'<th scope="col" class="n">to {escape(table.base_name)}&#39;s</th>'
    out = [f'<div class="scroll"><table><caption>{escape(table.title)}</caption><thead><tr>{head}'
           '</tr></thead><tbody>']
    for index, metric in enumerate(table.metrics):
        for row in table.rows:
            values = row["samples"][index]
            first, *others = row["key"]
            out.append(f'<tr><th scope="row">{escape(first)}</th>' +
                       "".join(f"<td>{escape(k)}</td>" for k in others) +
                       f"<td>{escape(metric.name)}</td>")
            if values:
                shown = [metric.form.format(v)
                         for v in (min(values), tables.middle(values), max(values))]
                shown += [len(values), tables.ratio(tables.middle(values), table.base_of(index))
                          if metric.compare else ""]
                out.append("".join(f'<td class="n">{v}</td>' for v in shown))
            else:
                out.append(f'<td colspan="5">{escape(row["note"] or "failed")}</td>')
            out.append("</tr>")
    return "".join(out) + "</tbody></table></div>"


def page(header, results):
    rows = [line.split(": ", 1) for line in header.splitlines() if ": " in line]
    facts = "".join(f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows)
    links = "".join(f'<li><a href="#t{n}">{escape(t.title)}</a></li>' for n, t in enumerate(results))
    parts = []
    for n, t in enumerate(results):
        parts.append(f'<section id="t{n}"><h2>{escape(t.title)}</h2>')
        parts += [plot(t, i, f"t{n}m{i}") for i in range(len(t.metrics))]
        parts.append(html_table(t))
        parts += [f"<p>{escape(note)}</p>" for note in t.notes]
        if t.commands:
            parts.append("<details><summary>Commands</summary>" +
                         "".join(f"<pre>{escape(c)}</pre>" for c in t.commands) + "</details>")
        parts.append("</section>")
    return ('<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
            '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
            f"<title>skep: measurements</title><style>{STYLE}</style></head><body>\n"
            f"<h1>skep: measurements</h1><dl>{facts}</dl>"
            "<p>Figures of one machine in one hour: compare within a table, not between pages. "
            "In the plots a circle is skep, a square another monitor, a diamond the limit that the "
            "host sets; the line is the range of the runs.</p>"
            f'<nav aria-label="Tables"><ul>{links}</ul></nav>\n' + "\n".join(parts) +
            "\n</body></html>\n")


def main(header, results, output):
    with open(header, encoding="utf-8") as f:
        text = f.read()
    with open(output, "w", encoding="utf-8") as f:
        f.write(page(text, tables.load(results)))


if __name__ == "__main__":
    if len(sys.argv) != 4:
        sys.exit(__doc__)
    main(*sys.argv[1:])
