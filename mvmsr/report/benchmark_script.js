"use strict";
// The gallery and the charts of a benchmark's page. All they need lies in the page: #data.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const $ = (id) => document.getElementById(id);
  const unsignedZero = (text) => /^-0[.0]*$/.test(text) ? text.slice(1) : text;
  const fixed = (value, metric) => value === null ? "–" : unsignedZero(value.toFixed(metric.decimals));
  const option = (name, value) => new Option(name, value);
  let showPicture = () => {};

  function gallery() {
    const stage = $("stage"), over = $("over"), under = $("under"), divider = $("divider");
    const left = $("left"), right = $("right"), thumbs = [...document.querySelectorAll(".thumb")];
    const scores = new Map(data.chart.images.map(([method, set, image, values]) =>
      [JSON.stringify([data.chart.methods[method], data.chart.sets[set], image]), values]));
    let index = 0, share = 50;

    function divide(value) {
      share = Math.min(100, Math.max(0, value));
      over.style.clipPath = `inset(0 ${100 - share}% 0 0)`;
      divider.style.left = `${share}%`;
      divider.setAttribute("aria-valuenow", String(Math.round(share)));
      divider.setAttribute("aria-valuetext",
        `${Math.round(share)} % ${left.value}, ${Math.round(100 - share)} % ${right.value}`);
    }

    function draw() {
      const picture = data.pictures[index];
      const version = (name) => picture.versions.find((one) => one.name === name);
      for (const [image, tag, name] of [[over, $("tag-left"), left.value], [under, $("tag-right"), right.value]]) {
        image.src = version(name).src;
        image.alt = `${picture.set}, ${picture.image}: ${name}`;
        tag.textContent = name;
      }
      stage.style.aspectRatio = `${picture.width} / ${picture.height}`;
      stage.style.width = `min(100%, ${(70 * picture.width / picture.height).toFixed(2)}vh)`;
      $("frames").replaceChildren(...picture.places.map(([x, y, side], number) => {
        const frame = document.createElement("i"), key = document.createElement("b");
        frame.style.cssText = `left:${100 * x / picture.width}%;top:${100 * y / picture.height}%;` +
          `width:${100 * side / picture.width}%;height:${100 * side / picture.height}%`;
        key.textContent = String(number + 1);
        frame.append(key);
        return frame;
      }));
      const cut = picture.cut ? ", part" : "";
      $("which").textContent = `${index + 1} of ${data.pictures.length}: ${picture.set}, ${picture.image}${cut}`;
      drawScores(picture);
      for (const places of document.querySelectorAll(".places")) {
        places.hidden = places.dataset.picture !== String(index);
        for (const tile of places.querySelectorAll("figure")) {
          tile.classList.toggle("on", [left.value, right.value].includes(tile.textContent.trim()));
        }
      }
      divide(share);
    }

    function drawScores(picture) {
      const table = $("picture-scores"), head = table.createTHead(), body = document.createElement("tbody");
      head.replaceChildren();
      const cell = (row, tag, text, scope) => {
        const made = document.createElement(tag);
        made.textContent = text;
        if (scope) made.scope = scope;
        row.append(made);
        return made;
      };
      const titles = head.insertRow();
      cell(titles, "th", "this image", "col");
      for (const metric of data.chart.metrics) cell(titles, "th", metric.label, "col").className = "number";
      for (const name of new Set([left.value, right.value])) {
        const values = scores.get(JSON.stringify([name, picture.set, picture.image]));
        if (!values) continue;
        const row = body.insertRow();
        cell(row, "th", name, "row");
        values.forEach((value, i) => cell(row, "td", fixed(value, data.chart.metrics[i])));
      }
      table.tBodies[0]?.remove();
      table.append(body);
      table.parentElement.hidden = !body.rows.length;
    }

    function choose(next) {
      index = (next + data.pictures.length) % data.pictures.length;
      thumbs.forEach((thumb, i) => {
        thumb.setAttribute("aria-selected", String(i === index));
        thumb.tabIndex = i === index ? 0 : -1;
      });
      const thumb = thumbs[index], row = thumb.parentElement;  // not scrollIntoView, which would move the page, too
      row.scrollLeft = Math.max(Math.min(row.scrollLeft, thumb.offsetLeft - row.offsetLeft - 8),
        thumb.offsetLeft - row.offsetLeft + thumb.offsetWidth + 8 - row.clientWidth);
      const names = data.pictures[index].versions.map((version) => version.name);
      for (const [select, wish] of [[left, names[0]], [right, names[names.length - 1]]]) {
        const before = select.value;
        select.replaceChildren(...names.map((name) => option(name, name)));
        select.value = names.includes(before) ? before : wish;
      }
      draw();
    }

    const move = (event) => {
      const box = stage.getBoundingClientRect();
      divide(100 * (event.clientX - box.left) / box.width);
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      stage.setPointerCapture(event.pointerId);
      divider.focus({ preventScroll: true });
      move(event);
      event.preventDefault();
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) move(event);
    });
    divider.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: -2, ArrowDown: -2, ArrowRight: 2, ArrowUp: 2, PageDown: -10, PageUp: 10, Home: -100, End: 100 };
      if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
      divide(share + steps[event.key]);
      event.preventDefault();
    });
    thumbs.forEach((thumb, number) => {
      thumb.addEventListener("click", () => choose(number));
      thumb.addEventListener("keydown", (event) => {
        const steps = { ArrowLeft: index - 1, ArrowUp: index - 1, ArrowRight: index + 1, ArrowDown: index + 1, Home: 0, End: -1 };
        if (!(event.key in steps) || event.altKey || event.ctrlKey || event.metaKey) return;
        choose(steps[event.key]);
        thumbs[index].focus();
        event.preventDefault();
      });
    });
    $("previous").addEventListener("click", () => choose(index - 1));
    $("next").addEventListener("click", () => choose(index + 1));
    $("swap").addEventListener("click", () => {
      [left.value, right.value] = [right.value, left.value];
      draw();
    });
    left.addEventListener("change", draw);
    right.addEventListener("change", draw);
    left.append(option(data.left, data.left));
    right.append(option(data.right, data.right));
    choose(0);

    showPicture = (set, image) => {
      choose(data.pictures.findIndex((picture) => picture.set === set && picture.image === image));
      $("gallery").scrollIntoView({ block: "start" });
    };
  }

  function charts() {
    const { methods, sets, metrics, images } = data.chart, WIDTH = 460, HEIGHT = 340;
    const margin = { left: 58, right: 14, top: 12, bottom: 46 };
    const a = $("chart-a"), b = $("chart-b"), by = $("chart-metric");
    const rows = new Map();
    for (const [method, set, image, values] of images) {
      const key = JSON.stringify([set, image]);
      if (!rows.has(key)) rows.set(key, { set, image, scores: [] });
      rows.get(key).scores[method] = values;
    }
    const inGallery = new Set(data.pictures.map((picture) => JSON.stringify([picture.set, picture.image])));
    const element = (name, attributes, text) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", name);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      if (text !== undefined) made.textContent = text;
      return made;
    };
    const color = (method) => `var(--run${method % 8})`;

    function mark(kind, x, y, r) {  // one shape a set: colours say which method is better
      const points = [
        null,
        [[-1, -1], [1, -1], [1, 1], [-1, 1]],
        [[0, -1.2], [1.15, 0.9], [-1.15, 0.9]],
        [[0, -1.35], [1.35, 0], [0, 1.35], [-1.35, 0]],
      ][kind % 4];
      if (!points) return element("circle", { cx: x, cy: y, r });
      const size = kind % 4 === 1 ? r * 0.9 : r;
      return element("polygon", { points: points.map(([dx, dy]) => `${x + dx * size},${y + dy * size}`).join(" ") });
    }

    function ticks(low, high) {
      const rough = (high - low) / 5.5, power = 10 ** Math.floor(Math.log10(rough));
      const factor = [1, 2, 2.5, 5, 10].find((n) => n * power >= rough * 0.999), step = factor * power;
      const decimals = Math.max(0, (factor === 2.5 ? 1 : 0) - Math.floor(Math.log10(factor === 10 ? step : power) + 1e-9));
      const found = [];
      for (let n = Math.ceil(low / step - 1e-9); n <= high / step + 1e-9; n++) found.push(n * step);
      return { found, text: (value) => value.toFixed(decimals).replace("-", "−") };
    }

    function frame(svg, x, y, xRange, yRange, titles) {
      const scaleX = (value) => margin.left + (value - xRange[0]) / (xRange[1] - xRange[0]) * (WIDTH - margin.left - margin.right);
      const scaleY = (value) => HEIGHT - margin.bottom - (value - yRange[0]) / (yRange[1] - yRange[0]) * (HEIGHT - margin.top - margin.bottom);
      const vertical = ticks(...yRange);
      for (const value of vertical.found) {
        svg.append(element("line", { x1: margin.left, x2: WIDTH - margin.right, y1: scaleY(value), y2: scaleY(value), class: value === 0 && y ? "zero" : "" }));
        svg.append(element("text", { x: margin.left - 7, y: scaleY(value) + 4, "text-anchor": "end" }, vertical.text(value)));
      }
      if (x) {
        const horizontal = ticks(...xRange);
        for (const value of horizontal.found) {
          svg.append(element("line", { y1: margin.top, y2: HEIGHT - margin.bottom, x1: scaleX(value), x2: scaleX(value) }));
          svg.append(element("text", { x: scaleX(value), y: HEIGHT - margin.bottom + 17, "text-anchor": "middle" }, horizontal.text(value)));
        }
      }
      const middle = (HEIGHT - margin.bottom + margin.top) / 2;
      svg.append(element("text", { x: (WIDTH + margin.left - margin.right) / 2, y: HEIGHT - 8, "text-anchor": "middle", class: "title" }, titles[0]));
      svg.append(element("text", { transform: `translate(13 ${middle}) rotate(-90)`, "text-anchor": "middle", class: "title" }, titles[1]));
      return [scaleX, scaleY];
    }

    function place(svg, shape, row, metric, winner) {
      const name = sets[row.set], known = inGallery.has(JSON.stringify([name, row.image]));
      shape.setAttribute("fill", winner === null ? "var(--soft)" : color(winner));
      shape.setAttribute("class", known ? "mark open" : "mark");
      shape.append(element("title", {}, `${name}, ${row.image}: ${methods[+a.value]} ${fixed(row.x, metric)}, ${methods[+b.value]} ${fixed(row.y, metric)}`));
      if (known) shape.addEventListener("click", () => showPicture(name, row.image));
      svg.append(shape);
    }

    const padded = (values) => {
      const low = Math.min(...values), high = Math.max(...values), gap = (high - low || Math.abs(high) || 1) * 0.06;
      return [low - gap, high + gap];
    };

    function draw() {
      const metric = metrics[+by.value], first = +a.value, second = +b.value;
      const found = [...rows.values()].map((row) => ({ ...row, x: row.scores[first]?.[+by.value], y: row.scores[second]?.[+by.value] }))
        .filter((row) => Number.isFinite(row.x) && Number.isFinite(row.y));
      const gain = (row) => row.y - row.x, better = (row) => metric.higher ? gain(row) > 0 : gain(row) < 0;
      const winner = (row) => gain(row) === 0 ? null : better(row) ? second : first;
      const wins = found.filter(better).length, mean = found.reduce((sum, row) => sum + gain(row), 0) / (found.length || 1);
      const signed = (value) => {
        const text = fixed(value, metric);
        return (value > 0 && Number(text) ? "+" : "") + text.replace("-", "−");
      };
      $("chart-sentence").textContent = found.length
        ? `${methods[second]} is better than ${methods[first]} on ${wins} of ${found.length} images; mean difference ${signed(mean)} (${metric.label}).`
        : `No image has a score of both.`;
      for (const [id, title] of [["scatter", "Scores of each image"], ["sorted", "Differences of each image"]]) {
        const svg = element("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, class: "chart", role: "img", "aria-label": `${title}. ${$("chart-sentence").textContent}` });
        $(id).replaceChildren(svg);
        if (found.length) (id === "scatter" ? scatter : sorted)(svg);
      }
      const used = [...new Set(found.map((row) => row.set))];
      $("chart-legend").replaceChildren(...[first, second].map((method) => {
        const item = document.createElement("li"), dot = document.createElement("span");
        dot.className = `dot dot${method % 8}`;
        item.append(dot, `${methods[method]} is better`);
        return item;
      }), ...(used.length > 1 ? used : []).map((set) => {
        const item = document.createElement("li"), svg = element("svg", { viewBox: "-7 -7 14 14" });
        const shape = mark(set, 0, 0, 4.5);
        shape.setAttribute("fill", "var(--soft)");
        svg.append(shape);
        item.append(svg, sets[set]);
        return item;
      }));

      function scatter(svg) {
        const range = padded(found.flatMap((row) => [row.x, row.y]));
        const [x, y] = frame(svg, true, false, range, range, [`${metric.label}, ${methods[first]}`, `${metric.label}, ${methods[second]}`]);
        svg.append(element("line", { x1: x(range[0]), y1: y(range[0]), x2: x(range[1]), y2: y(range[1]), class: "zero" }));
        for (const row of found) place(svg, mark(row.set, x(row.x), y(row.y), 5), row, metric, winner(row));
      }

      function sorted(svg) {
        const order = [...found].sort((one, other) => gain(other) - gain(one)), count = order.length;
        const [x, y] = frame(svg, false, true, [-0.5, count - 0.5], padded([0, ...order.map(gain)]),
          [`${count} image${count === 1 ? "" : "s"}`, `${methods[second]} − ${methods[first]}, ${metric.label}`]);
        const width = Math.max(1, (x(1) - x(0)) * 0.78);
        order.forEach((row, i) => {
          const [top, bottom] = [Math.min(y(gain(row)), y(0)), Math.max(y(gain(row)), y(0))];
          place(svg, element("rect", { x: x(i) - width / 2, y: top, width, height: Math.max(bottom - top, 0.5) }), row, metric, winner(row));
        });
      }
    }

    methods.forEach((method, i) => { a.append(option(method, i)); b.append(option(method, i)); });
    metrics.forEach((metric, i) => by.append(option(metric.label, i)));
    a.value = String(Math.max(0, methods.indexOf(data.left)));
    b.value = String(Math.max(0, methods.indexOf(data.right)));
    if (a.value === b.value) b.value = String((+a.value + 1) % methods.length);
    for (const select of [a, b, by]) select.addEventListener("change", draw);
    $("single").hidden = false;
    draw();
  }

  if (data.pictures.length) gallery();
  if ($("single")) charts();
})();
