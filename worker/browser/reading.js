// What a page shows, read in an isolated world: the page's own scripts can change nothing here, and do not see it.
// Names of forms and pictures still hide the properties of their form or document (`<input name=children>`), so every
// property is read by its prototype's own getter. Everything is bounded before it leaves the page.
(() => {
    const bound = method => Function.prototype.call.bind(method);
    const getter = (kind, name) => bound(Object.getOwnPropertyDescriptor(kind.prototype, name).get);
    const nodeType = getter(Node, "nodeType"), parentNode = getter(Node, "parentNode");
    const childNodes = getter(Node, "childNodes"), textContent = getter(Node, "textContent");
    const ownerDocument = getter(Node, "ownerDocument"), shadowRoot = getter(Element, "shadowRoot");
    const localName = getter(Element, "localName"), outerHTML = getter(Element, "outerHTML");
    const attribute = bound(Element.prototype.getAttribute), matches = bound(Element.prototype.matches);
    const boxOf = bound(Element.prototype.getBoundingClientRect), boxesOf = bound(Element.prototype.getClientRects);
    const checkVisibility = bound(Element.prototype.checkVisibility);
    const scrollIntoView = bound(Element.prototype.scrollIntoView);
    const clientWidth = getter(Element, "clientWidth"), clientHeight = getter(Element, "clientHeight");
    const assigned = bound(HTMLSlotElement.prototype.assignedNodes);
    const contentType = getter(Document, "contentType"), defaultView = getter(Document, "defaultView");
    const documentElement = getter(Document, "documentElement");
    const inner = {
        iframe: getter(HTMLIFrameElement, "contentDocument"),
        frame: getter(HTMLFrameElement, "contentDocument"),
    };
    const query = {
        1: bound(Element.prototype.querySelectorAll),
        9: bound(Document.prototype.querySelectorAll),
        11: bound(DocumentFragment.prototype.querySelectorAll),
    };
    const first = bound(Document.prototype.querySelector);
    const namespace = getter(Element, "namespaceURI");
    const ELEMENT = 1, TEXT = 3, HTML = "http://www.w3.org/1999/xhtml";
    const VISIBLE = {
        opacityProperty: true, visibilityProperty: true, checkOpacity: true, checkVisibilityCSS: true,
    };
    const LENGTH = 10000, HTML_LENGTH = 100000, TOTAL = 2000000, SCRIPTS = 20;
    const UNSEEN = new Set(["script", "style", "template", "noscript", "head", "title", "desc", "metadata"]);
    const CONTROLS = new Set(["input", "textarea", "select", "button", "img", "svg", "canvas", "video", "iframe"]);
    const styleOf = element => getComputedStyle(element);

    const framed = element => {
        const name = localName(element);
        if (!inner[name] || !shown(element)) return null;
        try { return inner[name](element); } catch { return null; }
    };
    // Every match in ROOT, open shadow roots and frames of the same site included.
    const find = (selector, root = document) => {
        if (selector === "" || selector === ":scope") return nodeType(root) === ELEMENT ? [root] : [];
        const found = [], visit = place => {
            found.push(...query[nodeType(place)](place, selector));
            for (const element of query[nodeType(place)](place, "*")) {
                const below = shadowRoot(element) || framed(element);
                if (below) visit(below);
            }
        };
        visit(root);
        if (nodeType(root) === ELEMENT && shadowRoot(root)) visit(shadowRoot(root));
        return found;
    };
    const above = node => {
        const parent = parentNode(node);
        return parent && nodeType(parent) === 11 ? parent.host : parent;
    };
    const isXml = element => /xml/.test(contentType(ownerDocument(element))) &&
        !/xhtml/.test(contentType(ownerDocument(element)));

    // Ways of hiding that Chrome's own checkVisibility does not know: no room, a clip, a single pixel for screen readers.
    let walls = new WeakMap();
    const walled = element => {
        if (!element || nodeType(element) !== ELEMENT) return false;
        let known = walls.get(element);
        if (known === undefined) {
            known = hides(element) || walled(above(element));
            walls.set(element, known);
        }
        return known;
    };
    const hides = element => {
        const style = styleOf(element);
        if (/opacity\(0[%)]/.test(style.filter)) return true;
        if (style.clipPath !== "none" && /^(inset\((50|100)%|circle\(0|polygon\(0(px)? 0)/.test(style.clipPath)) return true;
        if (style.position === "absolute" || style.position === "fixed") {
            const sides = /^rect\((.+)\)$/.exec(style.clip);
            if (sides) {
                const [top, right, bottom, left] = sides[1].split(/,?\s+/).map(parseFloat);
                if (bottom - top <= 1 || right - left <= 1) return true;
            }
        }
        if (style.overflowX === "visible" || ["inline", "contents"].includes(style.display)) return false;
        if (["html", "body"].includes(localName(element)) || namespace(element) !== HTML) return false;
        return clientWidth(element) <= 1 || clientHeight(element) <= 1;
    };
    const outside = (box, view) => box.right + view.scrollX <= 0 || box.bottom + view.scrollY <= 0;
    const shown = element => checkVisibility(element, VISIBLE) && !walled(element);
    const isVisible = element => {
        if (isXml(element)) return true;
        if (!shown(element)) return false;
        if (styleOf(element).display === "contents") return words(element) !== "";
        const view = defaultView(ownerDocument(element)), boxes = [...boxesOf(element)];
        if (boxes.some(box => box.width > 0 && box.height > 0 && !outside(box, view))) return true;
        return words(element) !== ""; // no box of its own, and children that overflow it
    };

    const colourless = style => /^rgba\(.*, 0\)$/.test(style.webkitTextFillColor || style.color) &&
        !/text/.test(style.webkitBackgroundClip || "") && style.textShadow === "none";
    const cased = (text, style) => style.textTransform === "uppercase" ? text.toUpperCase()
        : style.textTransform === "lowercase" ? text.toLowerCase() : text;
    const written = (element, which) => {
        const style = getComputedStyle(element, which), quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(style.content);
        if (!quoted || style.display === "none" || style.visibility !== "visible") return "";
        return /[\uE000-\uF8FF]/.test(quoted[1]) ? "" : quoted[1].replace(/\\(.)/g, "$1");
    };
    const drawn = (node, view) => {
        const range = ownerDocument(node).createRange();
        range.selectNodeContents(node);
        for (const box of range.getClientRects()) {
            if (box.width > 0 && box.height > 0 && !outside(box, view)) return true;
        }
        return false;
    };
    const children = element => {
        const shadow = shadowRoot(element);
        if (shadow) return childNodes(shadow);
        if (localName(element) === "slot") {
            const nodes = assigned(element, {flatten: true});
            if (nodes.length) return nodes;
        }
        return childNodes(element);
    };
    const gather = (element, out) => {
        if (out.text.length > LENGTH * 2) return;
        const name = localName(element);
        if (UNSEEN.has(name)) return;
        if (name === "br") { out.text += "\n"; return; }
        const style = styleOf(element);
        if (style.display === "none" || style.opacity === "0") return;
        const visible = style.visibility === "visible" && shown(element);
        const gap = /^(block|flex|grid|list-item|table|table-row|flow-root|table-caption)$/.test(style.display) ? "\n"
            : style.display === "table-cell" ? "\t" : "";
        out.text += gap;
        const view = defaultView(ownerDocument(element)), keeps = /^(pre|break-spaces)/.test(style.whiteSpaceCollapse || style.whiteSpace);
        if (visible) out.text += written(element, "::before");
        for (const node of children(element)) {
            if (out.text.length > LENGTH * 2) break;
            if (nodeType(node) === ELEMENT) gather(node, out);
            else if (nodeType(node) === TEXT && visible && !colourless(style)) {
                const text = node.data;
                if (!/\S/.test(text)) out.text += keeps ? text : " ";
                else if (drawn(node, view)) out.text += cased(keeps ? text : text.replace(/[ \t\r\n\f]+/g, " "), style);
            }
        }
        if (visible) out.text += written(element, "::after");
        out.text += gap;
    };
    const valued = element => {
        const name = localName(element);
        if (name === "textarea" || (name === "input" && !/^(hidden|password|checkbox|radio|file)$/.test(element.type))) {
            return String(element.value);
        }
        return name === "select" ? String(element.selectedOptions[0]?.text ?? "") : null;
    };
    // The text of ELEMENT as a person sees it.
    const words = element => {
        if (isXml(element)) return textContent(element).trim().slice(0, LENGTH);
        const value = shown(element) ? valued(element) : null;
        if (value !== null) return value.slice(0, LENGTH);
        const out = {text: ""};
        for (let node = element; node && nodeType(node) === ELEMENT; node = above(node)) {
            if (styleOf(node).opacity === "0") return "";
        }
        gather(element, out);
        return out.text.replace(/[\u00a0 ]+/g, " ").replace(/ *([\n\t]) */g, "$1").replace(/\n[\n\t]*/g, "\n")
            .trim().slice(0, LENGTH);
    };
    const blank = (element, text) => text === "" && !CONTROLS.has(localName(element)) &&
        !find("img, svg, canvas, video", element).some(one => localName(one) !== "img" || one.naturalWidth > 0);

    const mix = (hash, text) => {
        for (let index = 0; index < text.length; index++) hash = Math.imul(hash ^ text.charCodeAt(index), 16777619);
        return Math.imul(hash ^ 30, 16777619);
    };
    const visibles = selector => find(selector).filter(isVisible);
    const describe = element => {
        const id = attribute(element, "id"), kind = (attribute(element, "class") || "").trim().split(/\s+/)[0];
        return `<${localName(element)}${id ? "#" + id : ""}${kind ? "." + kind : ""}>`.slice(0, 80);
    };

    // --- what is asked from outside

    const state = selector => {
        const all = find(selector), seen = all.filter(isVisible);
        let hash = seen.length | 0, blanks = 0, length = 0;
        for (const element of seen) {
            const text = length < TOTAL ? words(element) : "";
            length += text.length;
            hash = mix(hash, text);
            blanks += blank(element, text);
        }
        return {present: all.length, visible: seen.length, blank: blanks, print: hash, loading: document.readyState};
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
        return pick.html ? outerHTML(element).slice(0, HTML_LENGTH) : words(element);
    };
    const picked = (root, pick) => {
        if (pick.meta) {
            const found = [...query[9](document, "meta")].find(one =>
                [attribute(one, "name"), attribute(one, "property"), attribute(one, "itemprop")].includes(pick.meta));
            return found ? (attribute(found, "content") ?? "").slice(0, LENGTH) : null;
        }
        // An attribute may stand at what nobody sees (`<meta itemprop=price content=...>`); text may not.
        const found = find(pick.select, root).filter(one => pick.attribute || isVisible(one));
        if (pick.every) return found.slice(0, 200).map(element => taken(element, pick));
        return found.length ? taken(found[0], pick) : null;
    };
    const row = (root, picks) => Object.fromEntries(Object.entries(picks).map(([name, pick]) => [name, picked(root, pick)]));
    const placed = element => {
        let box = boxOf(element), x = box.left, y = box.top;
        for (let view = defaultView(ownerDocument(element)); view && view !== window; view = view.parent) {
            const frame = boxOf(view.frameElement);
            x += frame.left;
            y += frame.top;
        }
        return {x, y, width: box.width, height: box.height};
    };
    const onPage = box => [box.x + scrollX, box.y + scrollY, box.width, box.height].map(Math.round);
    const rows = (selector, picks, advertisement, most) => {
        const seen = visibles(selector);
        let left = TOTAL;
        const made = seen.slice(0, most).map(element => ({
            fields: row(element, picks),
            advertisement: Boolean(advertisement) && (matches(element, advertisement) || find(advertisement, element).length > 0),
            box: onPage(placed(element)),
            key: String(mix(7, words(element) + outerHTML(element).length)),
        })).filter(one => (left -= JSON.stringify(one.fields).length) >= 0);
        return {rows: made, count: seen.length, partial: seen.length > 0 && isVirtual(seen)};
    };
    // A list that keeps in the page what is near its window alone: far more room than its items take up.
    const isVirtual = seen => {
        const boxes = seen.map(element => boxOf(element));
        const span = Math.max(...boxes.map(box => box.bottom)) - Math.min(...boxes.map(box => box.top));
        const parent = above(seen[0]);
        return Boolean(parent) && boxOf(parent).height > 2 * span + innerHeight;
    };
    const page = picks => row(document, picks);
    const jsonLd = () => [...query[9](document, 'script[type="application/ld+json"]')].slice(0, SCRIPTS)
        .map(element => textContent(element).slice(0, HTML_LENGTH));
    const boxes = selector => visibles(selector).slice(0, 200).map(element => onPage(placed(element)));

    const contains = (element, other) => {
        for (let node = other; node; node = above(node)) if (node === element) return true;
        return false;
    };
    const hit = (element, box) => {
        let root = element.getRootNode(), found = null;
        const x = Math.max(0, box.left + box.width / 2), y = Math.max(0, box.top + box.height / 2);
        if (!root.elementFromPoint) root = ownerDocument(element);
        found = root.elementFromPoint(x, y);
        return found;
    };
    const target = selector => {
        const all = find(selector), seen = all.find(isVisible);
        return {all, seen};
    };
    // Where a person would press: scrolled to, and with what lies over it.
    const point = selector => {
        const {all, seen} = target(selector);
        if (!seen) return {present: all.length, visible: 0};
        scrollIntoView(seen, {block: "center", inline: "center", behavior: "instant"});
        const box = [...boxesOf(seen)].find(one => one.width > 0 && one.height > 0) || boxOf(seen);
        const found = hit(seen, box), whole = placed(seen), own = boxOf(seen);
        const label = found && localName(found) === "label" && (found.control === seen || contains(found, seen));
        const free = found && (contains(seen, found) || label);
        return {
            present: all.length, visible: 1, covered: free ? "" : found ? describe(found) : "nothing that can be pressed",
            x: whole.x + (box.left - own.left) + box.width / 2, y: whole.y + (box.top - own.top) + box.height / 2,
        };
    };
    const active = () => {
        let found = document.activeElement;
        for (;;) {
            const below = found && (shadowRoot(found)?.activeElement || (inner[localName(found)] && framed(found)?.activeElement));
            if (!below) return found;
            found = below;
        }
    };
    const focus = selector => {
        const {all, seen} = target(selector);
        if (!seen) return {present: all.length, visible: 0};
        const where = point(selector);
        seen.focus({preventScroll: true});
        const focused = active() === seen;
        if (focused) {
            if (typeof seen.select === "function") seen.select();
            else if (seen.isContentEditable) getSelection().selectAllChildren(seen);
        }
        return {...where, focused, text: (valued(seen) ?? words(seen)).slice(0, LENGTH)};
    };
    const choose = (selector, wanted) => {
        const {all, seen} = target(selector);
        if (!seen) return {present: all.length, visible: 0};
        const options = localName(seen) === "select" ? [...seen.options] : [];
        const option = options.find(one => one.value === wanted || one.text.trim() === wanted);
        if (!option) return {present: all.length, visible: 1, missing: options.slice(0, 20).map(one => one.text.trim())};
        seen.value = option.value;
        for (const kind of ["input", "change"]) seen.dispatchEvent(new Event(kind, {bubbles: true}));
        return {present: all.length, visible: 1};
    };
    // The nearest thing that scrolls around the first match, or the page.
    const scroll = (selector, pixels) => {
        let place = selector ? find(selector)[0] : null;
        while (place && !(place.scrollHeight > clientHeight(place) + 1 && /auto|scroll/.test(styleOf(place).overflowY))) {
            place = above(place);
            if (place && nodeType(place) !== ELEMENT) place = null;
        }
        place = place || document.scrollingElement || documentElement(document);
        const before = place.scrollTop, by = pixels === null ? clientHeight(place) * 0.8 : pixels;
        place.scrollTop = before + by;
        return {moved: Math.abs(place.scrollTop - before) >= 1};
    };
    // Scrolled to BOX as to something a person looks at; how far the page is scrolled then.
    const reveal = (left, top, width, height) => {
        scrollTo({left: Math.max(0, left + width - innerWidth), top: Math.max(0, top + height / 2 - innerHeight / 2), behavior: "instant"});
        return [Math.round(scrollX), Math.round(scrollY)];
    };
    // What Chrome makes of an answer without a body.
    const empty = () => {
        const root = documentElement(document);
        return !root || (first(document, ":not(html, head, body)") === null && textContent(root).trim() === "");
    };
    const known = {
        reveal, empty,
        state, texts, attributes, html, rows, page, jsonLd, boxes, point, focus, choose, scroll,
        address: () => location.href.slice(0, LENGTH), language: () => navigator.language,
    };
    globalThis.ask = (name, given) => {
        walls = new WeakMap();
        try {
            return {value: known[name](...given)};
        } catch (error) {
            return {error: String(error.name), message: String(error.message).slice(0, 500)};
        }
    };
})();
