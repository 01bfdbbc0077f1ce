"""Style sheet and script of the page.

In: nothing. Out: text. Invariant: no external resource; light or dark as the reader's system is.
"""

STYLE = """
:root{color-scheme:light dark;--bg:#fbfbfa;--card:#fff;--ink:#1c1e21;--dim:#6a6f76;--rule:#e3e4e6;
--code:#f4f4f2;--accent:#2459c4;--c0:#4878d0;--c1:#e0873c;--c2:#5fa55a;--c3:#cc5455;--c4:#8e6dbf;
--c5:#3aa6a8;--c6:#c277a8;--c7:#a08b4e;--c8:#1f3f7a;--c9:#8f4f12;--c10:#2c6b36;--c11:#7d7f84}
@media (prefers-color-scheme:dark){:root{--bg:#16181b;--card:#1e2125;--ink:#e6e7e9;--dim:#989ea6;
--rule:#33373d;--code:#121417;--accent:#86abff;--c0:#7ba3f0;--c1:#f0a463;--c2:#84c57e;--c3:#ec7f7f;
--c4:#b396e3;--c5:#62c8ca;--c6:#e09cc9;--c7:#cdb772;--c8:#4f6fb5;--c9:#b9773c;--c10:#4f9a5d;
--c11:#aeb1b6}}
*{box-sizing:border-box}
body{margin:0;background:var(--bg);color:var(--ink);
font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
td.name{max-width:350px;overflow:hidden;text-overflow:ellipsis}
.key{margin:0 0 8px;font-size:13px;line-height:1.8}.key span{margin-right:16px;white-space:nowrap}
main{max-width:1440px;margin:0 auto;padding:28px 24px 80px}
h1{font-size:24px;margin:0 0 16px}h2{font-size:18px;margin:40px 0 6px}
h3{font-size:15px;margin:22px 0 4px;overflow-wrap:anywhere}
a{color:var(--accent);text-decoration:none}a:hover{text-decoration:underline}
.legend{color:var(--dim);margin:4px 0 12px;font-size:13.5px;max-width:95ch}
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(108px,1fr));gap:10px;
margin-bottom:12px}
.card{background:var(--card);border:1px solid var(--rule);border-radius:8px;padding:10px 12px}
.card span{display:block;color:var(--dim);font-size:12.5px}
.card b{font-size:16.5px;font-weight:600;white-space:nowrap}
.scroll{overflow:auto;max-height:820px;
border:1px solid var(--rule);border-radius:8px;background:var(--card)}
table{border-collapse:collapse;width:100%;font-size:13px}
td,th{padding:5px 10px;text-align:left;border-bottom:1px solid var(--rule);white-space:nowrap}
tbody tr:last-child td{border-bottom:0}tbody tr:hover{background:var(--code)}
.number{text-align:right;font-variant-numeric:tabular-nums}
thead th{position:sticky;top:0;background:var(--card);z-index:1}
.scroll>svg{border:0}
th button{all:unset;cursor:pointer;font-weight:600;color:var(--dim)}
th button:hover,th button:focus-visible{color:var(--accent)}
th[aria-sort=ascending] button::after{content:" \\2191"}
th[aria-sort=descending] button::after{content:" \\2193"}
.dot{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:7px}
svg{display:block;width:100%;max-width:1120px;height:auto;background:var(--card);
border:1px solid var(--rule);
border-radius:8px}
svg text{font-size:12px;fill:var(--ink)}svg text.dim{fill:var(--dim);font-size:11px}
.graph .row{fill:transparent}.graph .node:hover .row{fill:var(--code)}
.edge{fill:none;stroke:var(--dim);opacity:.35}.edge:hover,.edge.lit{stroke:var(--accent);opacity:1}
.graph.active .edge:not(.lit){opacity:.08}
.grid{stroke:var(--rule)}.peak{stroke:var(--c3);stroke-dasharray:4 3}
.buffer{opacity:.8}.buffer.tall{stroke:var(--card);stroke-width:.6}.buffer:hover{opacity:1;stroke:var(--ink)}
.outputs{fill:var(--dim);opacity:.28}
.live{fill:none;stroke:var(--ink);stroke-width:1.4}
.roof{fill:none;stroke:var(--ink);stroke-width:1.4}
.point{opacity:.75;stroke:var(--card)}.point:hover{opacity:1;stroke:var(--ink)}
article{border-top:1px solid var(--rule);padding:4px 0 10px;scroll-margin-top:12px}
article:target{background:var(--card);outline:2px solid var(--accent);outline-offset:8px;
border-radius:2px}
article ul{margin:6px 0;padding-left:20px;font-size:13.5px;overflow-wrap:anywhere}
pre,code{font:12.5px/1.5 ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace}
pre{background:var(--code);border:1px solid var(--rule);border-radius:6px;padding:10px 12px;
overflow-x:auto;margin:6px 0;max-height:560px}
pre.equation{white-space:pre-wrap;overflow-wrap:anywhere}
summary{cursor:pointer;color:var(--accent);font-size:13.5px}
"""

SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  table.querySelectorAll("th").forEach((head, column) => {
    head.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") === "descending";
      for (const other of table.querySelectorAll("th")) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => {
        const cell = row.cells[column];
        const text = cell.dataset.value ?? cell.textContent;
        const number = Number(text);
        return text === "" || Number.isNaN(number) ? text : number;
      };
      const compare = (a, b) =>
        typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (up ? 1 : -1) * compare(key(a), key(b)));
      table.tBodies[0].append(...rows);
    });
  });
}
for (const graph of document.querySelectorAll("svg.graph")) {
  for (const node of graph.querySelectorAll(".node")) {
    const step = node.dataset.step;
    const edges = graph.querySelectorAll(
      `.edge[data-from="${step}"], .edge[data-to="${step}"]`);
    const light = (on) => {
      graph.classList.toggle("active", on && edges.length > 0);
      for (const edge of edges) edge.classList.toggle("lit", on);
    };
    node.addEventListener("mouseenter", () => light(true));
    node.addEventListener("mouseleave", () => light(false));
  }
}
document.documentElement.dataset.ready = "true";
"""
