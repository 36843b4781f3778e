"use strict";
// The page of outlast's report. All text of a run is set as text, never as HTML. Charts: uPlot.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const runs = data.runs.map(known);
  const light = (run) => ({ ...run, light: true, metrics: [], attempts: [] });
  const others = data.others.map(light);
  const dashes = [[], [9, 4], [2, 3], [12, 3, 2, 3], [5, 5], [16, 4], [2, 7], [8, 2, 2, 2, 2, 2]];
  const state = { smooth: 0, log: false, filter: "", shown: new Set(runs.map((run) => run.id)) };
  const charts = new Map();
  const sync = uPlot.sync("steps");

  // Names of metrics and facts come from the run; a Map has no names of its own, such as "constructor".
  function known(run) {
    run.curves = new Map(run.curves.map((curve) => [curve.name, curve]));
    for (const attempt of run.attempts) attempt.facts = new Map(attempt.facts);
    return run;
  }

  // ---- building blocks

  function make(tag, attributes, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (value === null || value === undefined || value === false) continue;
      if (name === "text") node.textContent = value;
      else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
      else if (name === "class") node.className = value;
      else node.setAttribute(name, value === true ? "" : value);
    }
    for (const child of children.flat(Infinity)) if (child !== null && child !== undefined) node.append(child);
    return node;
  }
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colour = (index) => css(`--run-${index % 8}`);
  const whole = (value) => (value === null || value === undefined ? "" : value.toLocaleString("en-US"));
  function short(value) {
    if (value === null || value === undefined) return "";
    if (value !== 0 && (Math.abs(value) < 1e-3 || Math.abs(value) >= 1e6)) return value.toExponential(3);
    return String(Number(value.toPrecision(5)));
  }
  function hours(seconds) {
    if (seconds === null || seconds === undefined) return "";
    const s = Math.round(seconds), d = Math.floor(s / 86400), h = Math.floor(s / 3600), m = Math.floor(s / 60);
    if (s < 60) return seconds < 10 ? `${Number(seconds.toFixed(1))}s` : `${s}s`;
    if (s < 3600) return `${m}m${String(s % 60).padStart(2, "0")}s`;
    if (s < 360000) return `${h}h${String(m % 60).padStart(2, "0")}m`;
    return `${d}d${String(h % 24).padStart(2, "0")}h`;
  }
  const when = (text) => make("span", { class: "when", text: (text || "").replace("T", " ").replace("Z", "") });
  const status = (word) => make("span", { class: `status status-${/^[a-z]+$/.test(word) ? word : "other"}`, text: word });
  function scroll(name, table) {
    return make("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name }, table);
  }

  const sorts = new Map(); // caption of a table -> the column by which a reader sorted it, and whether downwards

  // A table; a column is {name, cell(row) -> node or text, key(row) -> value to sort by, number}.
  function table(caption, columns, rows, sortable) {
    const body = make("tbody");
    const head = columns.map((column) => {
      const th = make("th", { scope: "col", class: column.number ? "number" : null });
      if (!sortable) th.textContent = column.name;
      else th.append(make("button", { type: "button", text: column.name, onclick: () => sort(column, th) }));
      return th;
    });
    function fill(sorted) {
      body.replaceChildren(...sorted.map((row) => make("tr", {}, columns.map((column, index) => {
        const cell = column.cell(row);
        return make(index === 0 ? "th" : "td", { scope: index === 0 ? "row" : null, class: column.number ? "number" : null },
          cell instanceof Node ? cell : String(cell === null || cell === undefined ? "" : cell));
      }))));
    }
    const sort = (column, th) => order(column, th, th.getAttribute("aria-sort") === "ascending");
    function order(column, th, down) {
      sorts.set(caption, [columns.indexOf(column), down]);
      for (const each of head) each.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = column.key || column.cell;
      fill([...rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        const [empty, bare] = [x === null || x === undefined, y === null || y === undefined];
        if (empty || bare) return empty - bare;
        const difference = typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y));
        return down ? -difference : difference;
      }));
    }
    const [index, down] = sorts.get(caption) || [];
    if (sortable && columns[index]) order(columns[index], head[index], down);
    else fill(rows);
    return scroll(caption, make("table", {}, make("caption", { text: caption }), make("thead", {}, make("tr", {}, head)), body));
  }

  // ---- curves

  function smoothed(points, weight) {
    const found = [];
    let last = 0, sum = 0;
    for (const value of points) {
      last = last * weight + value * (1 - weight);
      sum = sum * weight + (1 - weight);
      found.push(last / sum);
    }
    return found;
  }

  function dataOf(name) {
    const tables = [], series = [];
    for (const [index, run] of runs.entries()) {
      const curve = run.curves.get(name);
      if (!curve || !state.shown.has(run.id)) continue;
      const positive = (values) => (state.log ? values.map((value) => (value > 0 ? value : null)) : values);
      const base = curve.means || curve;
      tables.push([curve.steps, positive(curve.values)]);
      series.push({ run, index, kind: "raw", points: curve.steps.length });
      if (state.smooth > 0 && base.values.length > 2) {
        tables.push([base.steps, positive(smoothed(base.values, state.smooth))]);
        series.push({ run, index, kind: "smooth", points: base.steps.length });
      }
    }
    return { series, table: tables.length ? uPlot.join(tables) : [[], []] };
  }

  function strokes(series) {
    const both = new Set(series.filter((each) => each.kind === "smooth").map((each) => each.index));
    return series.map((each) => ({
      label: each.run.id,
      stroke: () => colour(each.index) + (each.kind === "raw" && both.has(each.index) ? "55" : ""),
      width: each.kind === "raw" && both.has(each.index) ? 1 : 1.6,
      dash: dashes[each.index % dashes.length],
      spanGaps: true,
      points: { show: each.points <= 40 && each.kind === "raw", size: 6, fill: () => css("--paper") },
    }));
  }

  // Sessions as bands with their numbers; a dashed line and a triangle where one continued.
  function bands(u, name) {
    const visible = runs.filter((run) => state.shown.has(run.id) && run.curves.get(name));
    const { ctx } = u, { left, top, width, height } = u.bbox, ratio = devicePixelRatio;
    const at = (step) => Math.min(left + width, Math.max(left, u.valToPos(step, "x", true)));
    ctx.save();
    for (const run of visible) {
      for (const [index, session] of run.sessions.entries()) {
        const [begin, end] = [at(session.from), at(session.to)];
        if (visible.length === 1) {
          if (index % 2 === 0) { ctx.fillStyle = css("--band"); ctx.fillRect(begin, top, end - begin, height); }
          if (end - begin > 16 * ratio) {
            ctx.fillStyle = css("--soft");
            ctx.font = `${11 * ratio}px system-ui, sans-serif`;
            ctx.textAlign = "left"; ctx.textBaseline = "top";
            ctx.fillText(String(session.attempt), begin + 4 * ratio, top + 3 * ratio);
          }
        }
        if (session.resumed && session.from > 0 && u.valToPos(session.from, "x", true) >= left - 1 && begin < left + width) {
          ctx.strokeStyle = ctx.fillStyle = visible.length === 1 ? css("--soft") : colour(runs.indexOf(run));
          ctx.lineWidth = ratio;
          if (visible.length === 1) {
            ctx.setLineDash([3 * ratio, 3 * ratio]);
            ctx.beginPath(); ctx.moveTo(begin, top); ctx.lineTo(begin, top + height); ctx.stroke();
          }
          ctx.setLineDash([]);
          const foot = top + height;
          ctx.beginPath();
          ctx.moveTo(begin - 5 * ratio, foot); ctx.lineTo(begin + 5 * ratio, foot); ctx.lineTo(begin, foot - 8 * ratio);
          ctx.fill();
        }
      }
    }
    ctx.restore();
  }

  function facts(name) {
    const found = [];
    for (const run of runs) {
      if (!state.shown.has(run.id)) continue;
      const metric = run.metrics.find((each) => each.name === name);
      if (!metric) continue;
      const odd = metric.odd ? `; ${whole(metric.odd)} values are NaN or infinite, the first at step ${whole(metric.odd_at)}` : "";
      if (runs.length > 1) {
        const chosen = metric.best ? `, best ${short(metric[metric.best].value)}` : "";
        found.push(`${run.id} latest ${short(metric.latest.value)}${chosen}${odd}`);
        continue;
      }
      const best = (kind) => (metric.best === kind ? " (best)" : "");
      found.push(`latest ${short(metric.latest.value)} at step ${whole(metric.latest.step)}, lowest ` +
        `${short(metric.lowest.value)}${best("lowest")} at ${whole(metric.lowest.step)}, highest ` +
        `${short(metric.highest.value)}${best("highest")} at ${whole(metric.highest.step)}${odd}`);
    }
    return found.join(" · ");
  }

  class Chart {
    constructor(name) {
      this.name = name;
      this.plot = make("div", { class: "plot", tabindex: 0, role: "img", onkeydown: (event) => this.key(event) });
      this.readout = make("output", { class: "readout", "aria-live": "off" });
      this.node = make("figure", {}, make("h3", { text: name }), this.plot, this.readout);
      this.at = null;
    }
    draw() {
      const range = this.u && this.zoomed ? [this.u.scales.x.min, this.u.scales.x.max] : null;
      if (this.u) this.u.destroy();
      const { series, table } = dataOf(this.name);
      this.series = series;
      const flat = table.slice(1).flat().filter((value) => value !== null && value !== undefined);
      const log = state.log && flat.length > 0;
      const axis = { stroke: () => css("--soft"), grid: { stroke: () => css("--grid"), width: 1 }, ticks: { stroke: () => css("--grid"), size: 4 }, font: "12px system-ui, sans-serif" };
      this.u = new uPlot({
        width: Math.max(200, this.plot.clientWidth || 400),
        height: matchMedia("(max-width: 600px)").matches ? 190 : 220,
        legend: { show: false },
        cursor: { sync: { key: sync.key, setSeries: false }, drag: { x: true, y: false }, points: { size: 7 } },
        scales: { x: { time: false }, y: { distr: log ? 3 : 1 } },
        series: [{}, ...strokes(series)],
        axes: [
          { ...axis, values: (u, ticks) => ticks.map((tick) => whole(tick)), space: 70, size: 30 },
          { ...axis, values: (u, ticks) => ticks.map((tick) => (tick === null ? "" : short(tick))), size: 62 },
        ],
        hooks: {
          drawClear: [(u) => bands(u, this.name)],
          setCursor: [(u) => this.say(u.cursor.idx)],
          setSelect: [(u) => { if (u.select.width > 0) this.zoomed = true; }],
        },
      }, table, this.plot);
      this.u.over.addEventListener("dblclick", () => { this.zoomed = false; });
      if (range) this.u.setScale("x", { min: range[0], max: range[1] });
      this.plot.setAttribute("aria-label", `${this.name} over steps. ${facts(this.name)}. Arrow keys read values.`);
      this.say(null);
    }
    say(index) {
      if (index === null || index === undefined || !this.u || index < 0) { this.readout.textContent = facts(this.name); return; }
      const table = this.u.data, said = [`step ${whole(table[0][index])}`];
      this.series.forEach((each, number) => {
        let at = index;
        while (at >= 0 && (table[number + 1][at] === null || table[number + 1][at] === undefined)) at -= 1;
        if (at < 0) return;
        const who = runs.length > 1 && each.kind === "raw" ? `${each.run.id} ` : "";
        said.push(`${each.kind === "smooth" ? "smoothed " : who}${short(table[number + 1][at])}`);
      });
      this.readout.textContent = said.join(" · ");
    }
    key(event) {
      const steps = this.u.data[0];
      const moves = { ArrowRight: 1, ArrowLeft: -1, PageUp: 10, PageDown: -10, Home: -steps.length, End: steps.length };
      if (event.key === "Escape") {
        this.zoomed = false; this.at = null; this.u.setCursor({ left: -10, top: -10 });
        this.u.setScale("x", { min: steps[0], max: steps[steps.length - 1] });
      } else if (event.key === "+" || event.key === "-") {
        const { min, max } = this.u.scales.x, middle = this.at === null ? (min + max) / 2 : steps[this.at];
        const half = (max - min) * (event.key === "+" ? 0.25 : 1);
        this.zoomed = true;
        this.u.setScale("x", { min: Math.max(steps[0], middle - half), max: Math.min(steps[steps.length - 1], middle + half) });
      } else if (event.key in moves && steps.length) {
        const from = this.at === null ? (moves[event.key] > 0 ? -1 : steps.length) : this.at;
        this.at = Math.min(steps.length - 1, Math.max(0, from + moves[event.key]));
        this.readout.setAttribute("aria-live", "polite");
        this.u.setCursor({ left: this.u.valToPos(steps[this.at], "x"), top: this.u.over.clientHeight / 2 });
        this.say(this.at);
      } else return;
      event.preventDefault();
    }
  }

  const grid = make("div", { class: "charts" });
  const none = make("p", { class: "soft" });
  function drawCharts() {
    const names = [...new Set(runs.flatMap((run) => [...run.curves.keys()]))];
    const wanted = names.filter((name) => name.toLowerCase().includes(state.filter.toLowerCase()));
    for (const name of wanted) if (!charts.has(name)) charts.set(name, new Chart(name));
    const nodes = wanted.map((name) => charts.get(name).node);
    if (nodes.length !== grid.children.length || nodes.some((node, index) => grid.children[index] !== node)) grid.replaceChildren(...nodes);
    none.textContent = names.length === 0 ? "Nothing was logged yet." : wanted.length === 0 ? "No metric has such a name." : "";
    for (const name of wanted) {
      const chart = charts.get(name);
      if (chart.seen) chart.draw();
      else watcher.observe(chart.node);
    }
  }
  // A chart is drawn when it comes near the screen: a run may have hundreds.
  const watcher = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      const chart = [...charts.values()].find((each) => each.node === entry.target);
      watcher.unobserve(entry.target);
      chart.seen = true;
      chart.draw();
    }
  }, { rootMargin: "600px" });
  let waiting = 0, wide = 0;
  new ResizeObserver(() => {
    if (grid.clientWidth === wide) return;
    wide = grid.clientWidth;
    cancelAnimationFrame(waiting);
    waiting = requestAnimationFrame(() => { for (const chart of charts.values()) if (chart.u) chart.u.setSize({ width: Math.max(200, chart.plot.clientWidth), height: chart.u.height }); });
  }).observe(grid);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { drawKeys(); drawCharts(); });

  // ---- the table of runs

  function key(index) {
    const node = make("canvas", { class: "key", width: 68, height: 24, "data-run": index, role: "img", "aria-label": `line style ${index + 1}` });
    return node;
  }
  function drawKeys() {
    for (const node of document.querySelectorAll("canvas.key")) {
      const ctx = node.getContext("2d"), index = Number(node.dataset.run);
      ctx.clearRect(0, 0, 68, 24);
      ctx.strokeStyle = colour(index); ctx.lineWidth = 4;
      ctx.setLineDash(dashes[index % dashes.length].map((length) => 2 * length));
      ctx.beginPath(); ctx.moveTo(0, 12); ctx.lineTo(68, 12); ctx.stroke();
    }
  }
  const seconds = (run) => run.attempts.reduce((sum, attempt) => sum + (attempt.seconds || 0), 0);
  function runsTable() {
    const measured = [...new Set(runs.flatMap((run) => run.metrics.map((metric) => metric.name)))].slice(0, 12);
    const value = (run, name) => {
      const metric = run.metrics.find((each) => each.name === name);
      return metric ? metric[metric.best || "latest"].value : null;
    };
    const chosen = (name) => runs.some((run) => run.metrics.some((metric) => metric.name === name && metric.best));
    const columns = [
      { name: "run", key: (run) => run.id, cell: (run) => make("label", {},
        runs.length > 1 && !run.light ? make("input", { type: "checkbox", checked: state.shown.has(run.id), onchange: (event) => {
          if (event.target.checked) state.shown.add(run.id); else state.shown.delete(run.id);
          drawCharts();
        } }) : null, " ", run.light ? null : key(runs.indexOf(run)), " ", data.live ? make("a", { href: `/?runs=${encodeURIComponent(run.id)}`, text: run.id }) : run.id) },
      { name: "recipe", cell: (run) => run.recipe },
      { name: "status", key: (run) => run.status, cell: (run) => status(run.status) },
      { name: "step", number: true, key: (run) => run.reached, cell: (run) => whole(run.reached) },
      { name: "of", number: true, key: (run) => run.total_steps, cell: (run) => whole(run.total_steps) },
      { name: "attempts", number: true, key: (run) => run.attempts.length + run.earlier_attempts, cell: (run) => whole(run.attempts.length + run.earlier_attempts) },
      { name: "time", number: true, key: seconds, cell: (run) => (seconds(run) ? hours(seconds(run)) : "") },
      ...measured.map((name) => ({ name: chosen(name) ? `best ${name}` : `latest ${name}`, number: true, key: (run) => value(run, name), cell: (run) => short(value(run, name)) })),
    ];
    return table(runs.length > 1 ? "All runs. A name in the first row sorts; a box shows or hides the curves of a run." : "State of the run.", columns, [...runs, ...others], runs.length > 1);
  }

  // ---- one run

  const parts = [["training", "training"], ["data", "waiting for data"], ["evaluation", "evaluation"], ["saves", "saves"], ["starting", "starting"], ["other", "idle and other"]];
  function sessionsOf(run) {
    const rows = run.attempts;
    const columns = [
      { name: "attempt", number: true, cell: (each) => each.number },
      { name: "where", cell: (each) => [each.where, ...each.gpus].join(", ") },
      { name: "began", key: (each) => each.began, cell: (each) => when(each.began) },
      { name: "took", number: true, key: (each) => each.seconds, cell: (each) => `${hours(each.seconds)}${each.least ? "+" : ""}` },
      { name: "limit", number: true, key: (each) => each.limit, cell: (each) => hours(each.limit) || "none" },
      ...(rows.some((each) => each.budget) ? [{ name: "budget", number: true, key: (each) => each.budget, cell: (each) => (each.budget ? `${hours(each.budget)}${each.seconds ? `, ${Math.round(100 * each.seconds / each.budget)} % spent` : ""}` : "none") }] : []),
      ...(rows.some((each) => each.quota) ? [{ name: "quota", number: true, key: (each) => (each.quota ? each.seconds : null), cell: (each) => (each.quota ? `${hours(each.seconds)} ${each.quota}` : "none") }] : []),
      { name: "pause before", number: true, key: (each) => each.away, cell: (each) => hours(each.away) },
      { name: "continued", number: true, key: (each) => (each.resume ? each.resume.step : -1), cell: (each) => (each.resume ? `${whole(each.resume.step)}, ${each.resume.grade}` : "from nothing") },
      { name: "ended", key: (each) => each.reason, cell: (each) => status(each.reason) },
      { name: "at step", number: true, key: (each) => each.step, cell: (each) => whole(each.step) },
      { name: "steps repeated", number: true, key: (each) => each.repeated, cell: (each) => (each.repeated ? whole(each.repeated) : "") },
    ];
    if (!rows.length) return [make("p", { class: "soft", text: "The run has no attempt yet." })];
    const nodes = [make("h3", { text: "Sessions" }), table(`${rows.length} attempt${rows.length === 1 ? "" : "s"}${run.earlier_attempts ? ` and ${whole(run.earlier_attempts)} before` : ""}; times in UTC.`, columns, rows, true)];
    const quotas = new Map();
    for (const each of rows) if (each.quota && each.seconds) quotas.set(each.quota, (quotas.get(each.quota) || 0) + each.seconds);
    for (const [kind, sum] of quotas) nodes.push(make("p", { class: "notes", text: `${hours(sum)} of ${kind} quota while these attempts lasted; a session counts from its start, which is earlier.` }));
    for (const each of rows) if (each.error) nodes.push(make("p", { class: "error", text: `Attempt ${each.number} failed: ${each.error}` }));
    return nodes;
  }
  function hoursOf(run) {
    const rows = run.attempts.filter((each) => each.spent);
    if (!rows.length) return [];
    const total = (each) => parts.reduce((sum, [name]) => sum + (each.spent[name] || 0), 0);
    const all = { number: "all", spent: {} };
    for (const [name] of parts) if (rows.some((each) => name in each.spent)) all.spent[name] = rows.reduce((sum, each) => sum + (each.spent[name] || 0), 0);
    const bar = (each) => {
      const node = make("div", { class: "bar", role: "img", "aria-label": parts.filter(([name]) => each.spent[name]).map(([name, words]) => `${words} ${Math.round(100 * each.spent[name] / total(each))} %`).join(", ") });
      for (const [name, words] of parts) {
        const share = total(each) ? each.spent[name] / total(each) : 0;
        if (!(share > 0)) continue;
        const span = make("span", { class: `share-${name}`, title: `${words} ${hours(each.spent[name])}` });
        span.style.width = `${100 * share}%`;
        node.append(span);
      }
      return node;
    };
    const columns = [
      { name: "attempt", number: true, cell: (each) => each.number },
      { name: "share", cell: bar },
      ...parts.filter(([name]) => name in all.spent).map(([name, words]) => ({ name: words, number: true, key: (each) => each.spent[name], cell: (each) => {
        const value = each.spent[name];
        return value === undefined ? "" : `${hours(value)} · ${total(each) ? Math.round(100 * value / total(each)) : 0} %`;
      } })),
      { name: "in all", number: true, key: total, cell: (each) => hours(total(each)) },
    ];
    const keys = make("div", { class: "keys" }, parts.filter(([name]) => name in all.spent).map(([name, words]) => make("span", {}, make("i", { class: `share-${name}` }), words)));
    const advice = [...new Map(rows.flatMap((each) => each.advice.map((words) => [words.replace(/^[^%]*%/, ""), `Attempt ${each.number}: ${words}`]))).values()];
    return [
      make("h3", { text: "Where the time went" }), keys,
      table("Time of each attempt by activity.", columns, rows.length > 1 ? [all, ...rows] : rows, false),
      ...advice.map((words) => make("p", { class: "notes", text: `${words}.` })),
    ];
  }
  function launchesOf(run) {
    if (!run.launches.length) return [];
    const sums = new Map();
    for (const each of run.launches) {
      const kind = `${each.provider}, ${each.accelerator}`;
      sums.set(kind, (sums.get(kind) || 0) + (each.seconds || 0));
    }
    return [make("h3", { text: "Launches and quota" }), table(
      `Time that counts for the quota: ${[...sums].map(([kind, sum]) => `${kind} ${hours(sum) || "0s"}`).join("; ")}.`,
      [
        { name: "launch", cell: (each) => each.name }, { name: "provider", cell: (each) => each.provider },
        { name: "accelerator", cell: (each) => each.accelerator }, { name: "state", cell: (each) => each.state },
        { name: "when", key: (each) => each.time, cell: (each) => when(each.time) },
        { name: "budget", number: true, key: (each) => each.budget, cell: (each) => hours(each.budget) },
        { name: "spent", number: true, key: (each) => each.seconds, cell: (each) => hours(each.seconds) },
        { name: "at step", number: true, key: (each) => each.step, cell: (each) => whole(each.step) },
      ], run.launches, true)];
  }
  function metricsOf(run) {
    if (!run.metrics.length) return [];
    const point = (name) => [
      { name, number: true, key: (each) => each[name].value, cell: (each) => `${short(each[name].value)}${each.best === name ? " (best)" : ""}` },
      { name: "at step", number: true, key: (each) => each[name].step, cell: (each) => whole(each[name].step) },
    ];
    return [make("h3", { text: "Metrics" }), table("Latest and extreme values.", [
      { name: "metric", cell: (each) => each.name }, ...point("latest"), ...point("lowest"), ...point("highest"),
      { name: "values", number: true, key: (each) => each.count, cell: (each) => whole(each.count) },
    ], run.metrics, true)];
  }
  function picturesOf(run) {
    if (!run.pictures.length && !run.pictures_left_out.length) return [];
    return [
      make("h3", { text: "Pictures" }),
      make("div", { class: "pictures" }, run.pictures.map((each) => make("figure", {},
        each.kind.startsWith("video/") ? make("video", { src: each.uri, controls: true, loop: true, "aria-label": each.name }) : make("img", { src: each.uri, alt: each.name }),
        make("figcaption", { text: each.name })))),
      ...run.pictures_left_out.map((words) => make("p", { class: "soft", text: words })),
    ];
  }
  function configOf(run) {
    if (!run.config.length) return [];
    const changed = run.config.filter((each) => !/^(run \(was: )?default\)?$/.test(each.origin));
    const columns = [
      { name: "value", cell: (each) => make("span", { class: "mono", text: each.key }), key: (each) => each.key },
      { name: "", cell: (each) => make("span", { class: "mono", text: each.value }), key: (each) => each.value },
      { name: "from", cell: (each) => each.origin },
    ];
    return [make("details", {}, make("summary", { text: `Config: ${run.config.length} values, ${changed.length} of them not defaults` }),
      table("Values with their origins.", columns, run.config, true))];
  }
  function environmentOf(run) {
    const rows = [...new Set(run.attempts.flatMap((each) => [...each.facts.keys()]))];
    if (!rows.length) return [];
    const last = run.attempts.slice(-12);
    const columns = [{ name: "fact", cell: (name) => name }, ...last.map((each) => ({ name: `attempt ${each.number}`, cell: (name) => make("span", { class: "mono", text: each.facts.get(name) || "" }), key: (name) => each.facts.get(name) }))];
    const same = rows.filter((name) => new Set(last.map((each) => each.facts.get(name))).size === 1).length;
    return [make("details", {}, make("summary", { text: `Environment: ${rows.length} facts, ${rows.length - same} of them differ between attempts` }),
      table(last.length < run.attempts.length ? "The newest attempts." : "All attempts.", columns, rows, true))];
  }
  function toldOf(run) {
    const lines = run.attempts.flatMap((each) => [...each.changes, ...each.differences, ...each.told].map((words) => [each.number, words]));
    if (!lines.length) return [];
    return [make("details", {}, make("summary", { text: `Messages: ${lines.length}` }),
      make("ul", {}, lines.map(([number, words]) => make("li", { text: `Attempt ${number}: ${words}` }))))];
  }
  function head(run) {
    const of = run.total_steps ? ` of ${whole(run.total_steps)}` : "";
    return [
      make("p", {}, status(run.status), ` · step ${whole(run.reached)}${of} · recipe ${run.recipe} · resume grade ${run.grade}`),
      run.chain ? make("p", { class: "soft", text: `Stages: ${run.chain}` }) : null,
      run.parent ? make("p", { class: "soft", text: `Begun from step ${run.parent.step} of ${run.parent.run}.` }) : null,
      ...run.notes.map((words) => make("p", { class: "notes", text: words })),
    ];
  }
  function section(run) {
    const parts = [head(run), sessionsOf(run), hoursOf(run), launchesOf(run), metricsOf(run), picturesOf(run), configOf(run), environmentOf(run), toldOf(run)];
    const title = make("h2", { text: run.id });
    if (runs.length <= 3) return make("section", { class: "run", "aria-label": `Run ${run.id}` }, title, parts);
    return make("section", { class: "run", "aria-label": `Run ${run.id}` }, make("details", {}, make("summary", {}, title), parts));
  }
  function differences() {
    if (runs.filter((run) => run.config.length).length < 2) return [];
    if (!data.differs.length) return [make("h2", { text: "Differences" }), make("p", { text: "The runs have the same config." })];
    return [make("h2", { text: "Differences" }), table("The config values in which the runs differ.", [
      { name: "value", cell: (row) => make("span", { class: "mono", text: row.key }), key: (row) => row.key },
      ...runs.map((run, index) => ({ name: run.id, cell: (row) => make("span", { class: "mono", text: row.values[index] === null ? "—" : row.values[index] }), key: (row) => row.values[index] })),
    ], data.differs, true)];
  }

  // ---- the page

  const controls = make("form", { class: "controls", onsubmit: (event) => event.preventDefault() },
    make("label", {}, "smoothing", make("input", { type: "range", min: 0, max: 0.99, step: 0.01, value: 0, id: "smoothing", oninput: (event) => {
      state.smooth = Number(event.target.value);
      event.target.nextElementSibling.textContent = state.smooth ? state.smooth.toFixed(2) : "off";
      drawCharts();
    } }), make("output", { text: "off" })),
    make("label", {}, make("input", { type: "checkbox", id: "log", onchange: (event) => { state.log = event.target.checked; drawCharts(); } }), "log axis"),
    make("label", {}, "metrics", make("input", { type: "search", id: "filter", placeholder: "part of a name", oninput: (event) => { state.filter = event.target.value; drawCharts(); } })),
    make("span", { class: "soft", text: "Drag to zoom, double click to reset. Keys: arrows read values, + and - zoom, Escape resets." }));

  const [overview, curves, compared, details] = [0, 1, 2, 3].map(() => make("div"));
  const marks = make("p", { class: "soft", text: "Bands are sessions, numbered as the attempts; a triangle is a resume. Long curves show the smallest and the largest value of each range of steps; smoothing uses their means." });
  curves.append(make("h2", { text: "Curves" }), controls, marks, none, grid);
  function fill() {
    overview.replaceChildren(runsTable(), ...(data.left_out || []).map((words) => make("p", { class: "notes", text: words })));
    compared.replaceChildren(...differences());
    const open = new Set();
    const place = (node) => `${node.closest("section").getAttribute("aria-label")} ${node.textContent.split(":")[0]}`;
    for (const node of details.querySelectorAll("details[open] > summary")) open.add(place(node));
    details.replaceChildren(...runs.map(section));
    for (const node of details.querySelectorAll("details > summary")) if (open.has(place(node))) node.parentNode.open = true;
    drawKeys();
  }
  document.getElementById("page").replaceChildren(
    make("header", {}, make("h1", { text: data.title }), make("p", { class: "soft", id: "made", text: data.made })),
    ...(data.live ? [make("nav", {}, make("a", { href: "/", text: "All runs" }))] : []), overview, curves, compared, details);
  fill();
  drawCharts();

  // ---- live: the server sends the runs that changed

  function follow() {
    const made = document.getElementById("made"), source = new EventSource(data.live);
    const say = (words, live) => { made.textContent = words; made.className = live ? "soft live" : "soft"; };
    source.onopen = () => say("Live.", true);
    source.onerror = () => say("The connection is lost; it is tried again. Is `outlast board` still running?", false);
    source.onmessage = (event) => {
      const news = JSON.parse(event.data), fresh = new Map(news.runs.map((run) => [run.id, run]));
      const before = new Map(runs.map((run) => [run.id, run]));
      const now = news.ids.map((id) => {
        if (!fresh.has(id)) return before.get(id);
        if (!before.has(id)) state.shown.add(id);
        const { pictures, pictures_left_out } = before.get(id) || { pictures: [], pictures_left_out: [] };
        return { ...known(fresh.get(id)), pictures, pictures_left_out };
      }).filter((run) => run);
      runs.splice(0, runs.length, ...now);
      others.splice(0, others.length, ...news.others.map(light));
      data.differs = news.differs;
      data.left_out = news.left_out;
      const focusable = () => [...document.querySelectorAll("a, button, input, summary, [tabindex]")];
      const at = focusable().indexOf(document.activeElement);
      fill();
      if (at >= 0 && !document.activeElement.matches("a, button, input, summary, [tabindex]")) focusable()[at]?.focus({ preventScroll: true });
      drawCharts();
      say(`Live, changed at ${new Date().toLocaleTimeString()}.`, true);
    };
  }
  if (data.live) follow();
})();
