// Reads a page; everything is bounded before it leaves the page. Loaded after seeing.js.
(() => {
    const {
        nodeType, textContent, outerHTML, attribute, matches, boxOf, documentElement, contentType, first, LENGTH, HTML_LENGTH, TOTAL,
        SCRIPTS, find, query, above, styleOf, cover, describe, ELEMENT, isVisible, words, blank, placed, forget,
    } = globalThis.seeing;

    const mix = (hash, text) => {
        for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16777619);
        return Math.imul(hash ^ 30, 16777619);
    };
    const visibles = selector => find(selector).filter(isVisible);
    const state = selector => {
        const all = find(selector), seen = all.filter(isVisible);
        let hash = seen.length | 0, blanks = 0, length = 0, busy = 0;
        for (const element of seen) {
            const text = length < TOTAL ? words(element) : "";
            length += text.length;
            hash = mix(hash, text);
            blanks += blank(element, text);
            busy += isBusy(element);
        }
        return {present: all.length, visible: seen.length, blank: blanks, busy, print: hash};
    };
    const isBusy = element => {
        for (let node = element; node && nodeType(node) === ELEMENT; node = above(node)) {
            if (attribute(node, "aria-busy") === "true") return true;
        }
        return false;
    };
    const cutTo = values => {
        let left = TOTAL;
        return values.filter(value => (left -= value === null ? 0 : value.length) >= 0);
    };
    const texts = (selector, most) => cutTo(visibles(selector).slice(0, most).map(words));
    const attributes = (selector, name, most) =>
        cutTo(visibles(selector).slice(0, most).map(element => attribute(element, name)?.slice(0, LENGTH) ?? null));
    const html = (selector, most) => cutTo(visibles(selector).slice(0, most).map(element => outerHTML(element).slice(0, HTML_LENGTH)));

    const taken = (element, pick) => {
        if (pick.attribute) {
            const name = pick.attribute, value = attribute(element, name);
            if (value === null) return null;
            const whole = /^(href|src|action)$/.test(name) ? String(element[name] ?? value) : value;
            return whole.slice(0, LENGTH);
        }
        return pick.html ? outerHTML(element).slice(0, HTML_LENGTH) : words(element, pick.valid, pick.figures);
    };
    const picked = (root, pick) => {
        if (pick.meta) {
            return [...query[9](document, "meta")].filter(one =>
                [attribute(one, "name"), attribute(one, "property"), attribute(one, "itemprop")].includes(pick.meta))
                .slice(0, 200).map(one => attribute(one, "content")?.slice(0, LENGTH) ?? null);
        }
        // An attribute may belong to an invisible element (`<meta itemprop=price content=...>`); text may not.
        const found = find(pick.select, root).filter(one => pick.attribute || isVisible(one));
        return found.slice(0, pick.every ? 200 : 1).map(element => taken(element, pick));
    };
    const row = (root, picks) => Object.fromEntries(Object.entries(picks).map(([name, pick]) => [name, picked(root, pick)]));
    const onPage = box => [box.x + scrollX, box.y + scrollY, box.width, box.height].map(Math.round);
    // In reading order: a layout may reverse the order of the source, and a list that is drawn while one scrolls reuses
    // its elements. Columns, one after another, are also an order.
    const inOrder = seen => {
        const places = new Map(seen.map(element => [element, placed(element)]));
        const flip = seen.length && styleOf(seen[0]).direction === "rtl" ? -1 : 1;
        const after = (one, other) => Math.abs(one.y - other.y) <= 5 ? flip * (one.x - other.x) : one.y - other.y;
        const boxes = [...places.values()], parents = [above, node => above(node) && above(above(node))];
        if (!parents.some(of => new Set(seen.map(of)).size === 1)) return seen; // lists beside each other
        const right = boxes.every((box, index) => !index || after(box, boxes[index - 1]) >= 0 || flip * (box.x - boxes[index - 1].x) > 5);
        if (right || boxes.some(box => box.width <= 0 || box.height <= 0)) return seen;
        return [...seen].sort((one, other) => after(places.get(one), places.get(other)));
    };
    const rows = (selector, picks, advertisement, most) => {
        const seen = inOrder(visibles(selector));
        let left = TOTAL;
        const made = seen.slice(0, most).map(element => ({
            fields: row(element, picks),
            advertisement: Boolean(advertisement) && (matches(element, advertisement) || find(advertisement, element).length > 0),
            box: onPage(placed(element)),
            blank: blank(element, words(element)),
            key: `${mix(7, words(element))}:${outerHTML(element).length}`,
        })).filter(one => (left -= JSON.stringify(one.fields).length) >= 0);
        return {rows: made, count: seen.length, partial: seen.length > 0 && isVirtual(seen)};
    };
    // Whether a list keeps only the items near the window in the page: it has far more height than its items take up.
    const isVirtual = seen => {
        const boxes = seen.map(element => boxOf(element));
        const span = Math.max(...boxes.map(box => box.bottom)) - Math.min(...boxes.map(box => box.top));
        const parent = above(seen[0]);
        return Boolean(parent) && boxOf(parent).height > 2 * span + innerHeight;
    };
    // What covers the window at the first match, such as a notice.
    const over = pick => {
        const seen = pick.attribute || pick.meta ? undefined : visibles(pick.select)[0];
        const found = seen && cover(seen, boxOf(seen));
        return found?.layer ? describe(found.whole) : "";
    };
    const page = picks => ({
        fields: row(document, picks),
        over: Object.fromEntries(Object.entries(picks).map(([name, pick]) => [name, over(pick)])),
    });
    const jsonLd = () => [...query[9](document, 'script[type="application/ld+json"]')].slice(0, SCRIPTS)
        .map(element => textContent(element).slice(0, HTML_LENGTH));
    const boxes = selector => visibles(selector).slice(0, 5000).map(element => onPage(placed(element)));
    const view = () => [scrollX + visualViewport.offsetLeft, scrollY + visualViewport.offsetTop, innerWidth, innerHeight]
        .map(Math.round);

    // Why the page is not complete: Chrome's page for an answer without a body, or for XML that breaks off.
    const fault = () => {
        const root = documentElement(document);
        if (!root || (first(document, ":not(html, head, body)") === null && textContent(root).trim() === "")) return "NO_CONTENT";
        return /xml/.test(contentType(document)) && first(document, "parsererror") ? "MALFORMED" : "";
    };
    const known = {
        fault, state, texts, attributes, html, rows, page, jsonLd, boxes, view,
        store: entries => entries.forEach(([name, value]) => localStorage.setItem(name, value)),
        stored: () => Object.entries(localStorage),
        address: () => location.href.slice(0, LENGTH),
    };
    globalThis.answers = known;
    globalThis.ask = (name, given) => {
        forget();
        try {
            return {value: known[name](...given)};
        } catch (error) {
            return {error: String(error.name), message: String(error.message).slice(0, 500)};
        }
    };
})();
