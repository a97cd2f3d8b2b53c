"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== false) element.setAttribute(name, value === true ? "" : value);
    }
    element.append(...children);
    return element;
  };

  // --- Charts: colours are variables of the style sheet, and so follow light, dark and print.

  function coloured(value, styles) {
    if (typeof value === "string") {
      const name = /^var\((--[\w-]+)\)$/.exec(value);
      return name ? styles.getPropertyValue(name[1]).trim() : value;
    }
    if (Array.isArray(value)) return value.map((each) => coloured(each, styles));
    if (value === null || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, coloured(each, styles)]));
  }

  function draw(plot, chart) {
    const styles = getComputedStyle(document.documentElement);
    const { names, ...layout } = structuredClone(chart.layout);
    const traces = structuredClone(chart.data);
    if (names) { // of a heat map: what is taken for what
      traces[0].customdata = names.map((is) => names.map((taken) => `${is}, taken for ${taken}`));
      traces[0].hovertemplate = "%{customdata}<br>" + traces[0].hovertemplate;
    }
    Object.assign(layout, {
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      font: { family: styles.getPropertyValue("--sans"), size: 12, color: "var(--ink)" },
      hoverlabel: { bgcolor: "var(--paper)", bordercolor: "var(--soft)", font: { color: "var(--ink)", size: 13 }, namelength: -1, align: "left" },
    });
    return Plotly.react(plot, coloured(traces, styles), coloured(layout, styles), { displayModeBar: false, responsive: true });
  }

  const plain = (text) => new DOMParser().parseFromString(text, "text/html").documentElement.textContent;

  const DASHES = { dash: "5 3", dot: "1.5 2.5", dashdot: "6 3 1.5 3", longdash: "9 3", longdashdot: "9 3 1.5 3" };

  function swatch(trace) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    for (const [name, value] of [["width", 26], ["height", 10], ["aria-hidden", "true"]]) svg.setAttribute(name, value);
    const part = (tag, attributes) => {
      const element = document.createElementNS(svg.namespaceURI, tag);
      for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
      svg.append(element);
    };
    if (trace.type === "bar") part("rect", { x: 8, width: 10, height: 10, style: `fill: ${trace.marker.color}` });
    else if (trace.mode === "markers") part("line", { x1: 7, x2: 19, y1: 5, y2: 5, "stroke-width": 2, style: `stroke: ${trace.marker.color}` });
    else part("line", { x1: 0, x2: 26, y1: 5, y2: 5, "stroke-width": trace.line.width, "stroke-dasharray": DASHES[trace.line.dash] || "", style: `stroke: ${trace.line.color}` });
    return svg;
  }

  function legend(chart) {
    const named = chart.data.filter((trace) => trace.name && trace.showlegend !== false);
    if (named.length < 2) return [];
    return [make("ul", { class: "legend" }, ...named.map((trace) => make("li", {}, swatch(trace), make("span", {}, plain(trace.name)))))];
  }

  const figures = new Map(); // of all charts, by their ids

  function figure(chart) {
    const plot = make("div", { class: "plot", role: "img", "aria-label": `Chart: ${chart.title}. Tables of this page have its numbers.` });
    const below = make("div");
    const of = { element: make("figure", { class: "chart" }), plot, below, place: 0 };
    of.element.append(make("figcaption", {}, chart.title), plot, below);
    if (chart.options && chart.options.length > 1) {
      const select = make("select", {}, ...chart.options.map((each, place) => make("option", { value: place }, each.title)));
      select.addEventListener("change", () => { of.place = Number(select.value); redraw(of); });
      plot.before(make("label", { class: "controls" }, "Trained on ", select));
    }
    return of;
  }

  // A chart is drawn when it comes near the part of the page that is seen, or for the printer.
  const near = new IntersectionObserver((seen) => {
    for (const entry of seen) {
      const of = [...figures.values()].find((each) => each.element === entry.target);
      if (entry.isIntersecting && !of.drawn) redraw(of);
    }
  }, { rootMargin: "600px" });

  function redraw(of) {
    of.drawn = true;
    const chart = of.chart.options ? of.chart.options[Math.min(of.place, of.chart.options.length - 1)] : of.chart;
    of.below.replaceChildren(...legend(chart));
    return draw(of.plot, chart);
  }

  function drawAll(charts) {
    for (const [section, list] of Object.entries(charts)) {
      const place = document.querySelector(`[data-charts="${section}"]`);
      const fresh = list.filter((chart) => !figures.has(chart.id));
      for (const chart of fresh) {
        figures.set(chart.id, figure(chart));
        place.append(figures.get(chart.id).element);
      }
      for (const chart of list) { // when all are there, and so have their widths
        const of = figures.get(chart.id);
        if (!fresh.length && JSON.stringify(of.chart) === JSON.stringify(chart)) continue;
        of.chart = chart;
        if (of.drawn) redraw(of);
        else near.observe(of.element);
      }
      for (const element of document.querySelectorAll(`[data-with="${section}"]`)) element.hidden = !list.length;
      for (const element of document.querySelectorAll(`[data-without="${section}"]`)) element.hidden = list.length > 0;
    }
  }

  matchMedia("print").addEventListener("change", () => figures.forEach(redraw));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    figures.forEach((of) => of.drawn && redraw(of));
  });

  // --- Images: a sheet for each iteration; a tile shows its part of the sheet.

  const MANY = 500; // images, of which only those in sight are drawn
  const urls = new Map();

  function url(uri) {
    if (!urls.has(uri)) {
      const [head, text] = uri.split(",");
      const letters = atob(text);
      const bytes = new Uint8Array(letters.length);
      for (let place = 0; place < bytes.length; place++) bytes[place] = letters.charCodeAt(place);
      urls.set(uri, URL.createObjectURL(new Blob([bytes], { type: head.slice(5).split(";")[0] })));
    }
    return urls.get(uri);
  }

  const filter = document.getElementById("filter");
  const size = document.getElementById("size");
  const together = document.getElementById("together");
  let galleries = [];

  class Gallery {
    constructor(of, number) {
      this.of = of;
      this.kind = Object.keys(of.kinds || {})[0];
      this.classes = make("div", { class: "classes" });
      this.element = make("section", { class: "gallery", "aria-label": `Images of ${of.name}` });
      if (data.galleries.length > 1) this.element.append(make("h3", {}, of.name));
      if (this.kind) {
        this.element.append(this.controls(number), this.classes);
        this.fill();
        this.show(of.iterations.length - 1);
      }
      this.element.append(...of.notes.map((text) => make("p", { class: "note" }, text)));
    }

    controls(number) {
      const last = this.of.iterations.length - 1;
      const controls = make("div", { class: "controls" });
      this.slider = make("input", { type: "range", min: 0, max: last, step: 1, value: last });
      this.slider.value = last;
      this.output = make("output");
      const name = make("label", {}, "Iteration ", last > 0 ? this.slider : "", this.output);
      this.slider.addEventListener("input", () => {
        this.show(Number(this.slider.value));
        if (together && together.checked) {
          for (const other of galleries) if (other !== this) other.follow(this.slider.value / last);
        }
      });
      controls.append(name);
      const kinds = Object.keys(this.of.kinds);
      if (kinds.length > 1) {
        const labels = { stored: "as stored", decoded: "as networks see them" };
        controls.append(make("fieldset", {}, ...kinds.map((kind, place) => {
          const radio = make("input", { type: "radio", name: `kind-${number}`, value: kind, checked: !place });
          radio.addEventListener("change", () => { this.kind = kind; this.fill(); this.show(this.shown); });
          return make("label", {}, radio, labels[kind]);
        })));
      }
      return controls;
    }

    fill() {
      const { columns, count } = this.of.kinds[this.kind];
      this.classes.classList.toggle("many", count * this.of.classes.length > MANY);
      const list = this.of.classes.map((name, number) => {
        const tiles = make("div", { class: "tiles" });
        for (let each = 0; each < count; each++) {
          const place = number * count + each;
          const label = count > 1 ? `${name}, image ${each + 1} of ${count}` : name;
          const span = make("span", { role: "img", "aria-label": label, title: label });
          span.style.cssText = `--x:${-(place % columns)};--y:${-Math.floor(place / columns)}`;
          tiles.append(span);
        }
        const block = make("div", { class: count > 4 ? "class wide" : "class" }, make(data.galleries.length > 1 ? "h4" : "h3", {}, name), tiles);
        block.dataset.name = name.toLowerCase();
        return block;
      });
      this.classes.replaceChildren(...list);
      this.rows = Math.ceil(this.of.classes.length * count / columns);
      this.narrow();
      this.scale();
    }

    scale() {
      if (!this.kind) return;
      const { columns, count, tile: [height, width] } = this.of.kinds[this.kind];
      const wanted = Number(size.value);
      const factor = wanted >= width ? Math.max(1, Math.round(wanted / width)) : wanted / width;
      const set = (name, value) => this.classes.style.setProperty(name, `${value}px`);
      set("--w", width * factor); set("--h", height * factor);
      set("--sw", width * factor * columns); set("--sh", height * factor * this.rows);
      const across = Math.max(1, Math.floor(this.classes.clientWidth / (width * factor + 3)));
      set("--estimate", 24 + Math.ceil(count / across) * (height * factor + 3));
    }

    narrow() {
      const words = filter.value.toLowerCase().split(/[\s,]+/).filter(Boolean);
      for (const block of this.classes.children) {
        block.hidden = words.length > 0 && !words.some((word) => block.dataset.name.includes(word));
      }
    }

    follow(share) {
      if (!this.kind || this.of.iterations.length < 2) return;
      this.slider.value = Math.round(share * (this.of.iterations.length - 1));
      this.show(Number(this.slider.value));
    }

    lookAt(iteration) { // one that was looked at before there were newer ones
      const place = this.kind ? this.of.iterations.indexOf(iteration) : -1;
      if (place < 0) return;
      this.slider.value = place;
      this.show(place);
    }

    show(place) {
      this.shown = place;
      this.output.textContent = this.of.iterations[place];
      this.slider.setAttribute("aria-valuetext", `iteration ${this.of.iterations[place]}`);
      const address = url(this.of.kinds[this.kind].sheets[place]);
      this.classes.style.setProperty("--sheet", `url("${address}")`);
      this.classes.dataset.iteration = this.of.iterations[place];
    }
  }

  function showImages() {
    const count = Math.max(0, ...data.galleries.map((each) => each.kinds ? each.kinds.stored.count : 0));
    if (!galleries.length && count > 10) size.value = 40;
    const looked = galleries.map((each) => each.kind && each.shown < each.of.iterations.length - 1 ? each.of.iterations[each.shown] : null);
    for (const address of urls.values()) URL.revokeObjectURL(address);
    urls.clear();
    galleries = data.galleries.map((each, number) => new Gallery(each, number));
    galleries.forEach((each, number) => each.lookAt(looked[number]));
    const place = document.getElementById("galleries");
    place.classList.toggle("several", galleries.length > 1);
    place.replaceChildren(...galleries.map((each) => each.element));
    document.getElementById("controls").hidden = !count;
    galleries.forEach((each) => each.scale());
  }

  filter.addEventListener("input", () => galleries.forEach((each) => each.narrow()));
  size.addEventListener("input", () => galleries.forEach((each) => each.scale()));

  // --- Commands.

  for (const button of document.querySelectorAll(".copy")) {
    button.addEventListener("click", async () => {
      const code = button.parentElement.querySelector("code");
      try {
        await navigator.clipboard.writeText(code.textContent);
        button.textContent = "Copied";
      } catch { // not allowed: it is marked, for the user to copy
        getSelection().selectAllChildren(code);
        button.textContent = "Marked";
      }
    });
  }

  // --- A live page asks the server that it comes from for what is new.

  async function poll() {
    const status = document.getElementById("live");
    try {
      const answer = await fetch("/state");
      if (!answer.ok) throw new Error(answer.statusText);
      let state = await answer.json();
      if (state.images !== data.images) {
        state = await (await fetch("/state?images")).json();
        Object.assign(data, { galleries: state.galleries, images: state.images });
        showImages();
      }
      for (const [name, text] of Object.entries(state.parts)) {
        const part = document.getElementById(`part-${name}`);
        if (part.dataset.text !== text) {
          const open = [...part.querySelectorAll("details")].map((each) => each.open);
          part.innerHTML = text; // escaped by the server's templates
          part.querySelectorAll("details").forEach((each, place) => { each.open = open[place] || false; });
          part.dataset.text = text;
        }
      }
      drawAll(state.charts);
      status.textContent = `Live: follows the run. Last look at ${new Date().toLocaleTimeString()}.`;
    } catch (error) {
      status.textContent = "Not live any more: the server does not answer. What is shown is the last that it said.";
    }
    setTimeout(poll, data.poll * 1000);
  }

  showImages();
  drawAll(data.charts);
  if (data.poll) setTimeout(poll, data.poll * 1000);
})();
