// What a person sees of a page. It runs in an isolated world, which the page's scripts can neither change nor see.
// Names in forms and pictures still hide properties of their form or document (`<input name=children>`), so every
// property is read with its prototype's own getter. Everything is bounded before it leaves the page.
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
    const fromPoint = bound(Document.prototype.elementFromPoint), offsetParent = getter(HTMLElement, "offsetParent");

    const framed = element => {
        const name = localName(element);
        if (!inner[name] || !shown(element)) return null;
        const box = boxOf(element);
        if (box.width <= 1 || box.height <= 1 || outside(box, defaultView(ownerDocument(element)))) return null;
        try { return inner[name](element); } catch { return null; }
    };
    // All matches in ROOT, including those in open shadow roots and frames of the same site.
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
        ![HTML, "http://www.w3.org/2000/svg"].includes(namespace(element));

    // Ways of hiding that Chrome's checkVisibility does not detect: no size, a clip, a single pixel for screen readers.
    const describe = element => {
        const id = attribute(element, "id"), kind = (attribute(element, "class") || "").trim().split(/\s+/)[0];
        return `<${localName(element)}${id ? "#" + id : ""}${kind ? "." + kind : ""}>`.slice(0, 80);
    };
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
        if (/opacity\(0[%)]/.test(style.filter) || parseFloat(style.opacity) < 0.05) return true;
        if (style.clipPath !== "none" && /^(inset\(50%|inset\([^)]*100%|circle\(0|polygon\(0(px)? 0)/.test(style.clipPath)) return true;
        if (style.position === "absolute" || style.position === "fixed") {
            const sides = /^rect\((.+)\)$/.exec(style.clip);
            if (sides) {
                const [top, right, bottom, left] = sides[1].split(/,?\s+/).map(parseFloat);
                if (bottom - top <= 1 || right - left <= 1) return true;
            }
        }
        if (style.position === "fixed" && namespace(element) === HTML && offsetParent(element) === null) {
            const box = boxOf(element), view = defaultView(ownerDocument(element)); // no scrolling brings it here
            const beside = box.left >= view.innerWidth || box.top >= view.innerHeight || box.right <= 0 || box.bottom <= 0;
            if (beside && box.width > 0 && box.height > 0) return true;
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
    // For a control, whose text has no box of its own.
    const inked = style => !colourless(style) && parseFloat(style.fontSize) > 0;
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
        return [...range.getClientRects()].filter(box => box.width > 0 && box.height > 0 && !outside(box, view));
    };
    const contains = (element, other) => {
        for (let node = other; node; node = above(node)) if (node === element) return true;
        return false;
    };
    // What covers the middle of a BOX of ELEMENT, and whether that is a layer over the whole window (a notice) or a
    // part of the page.
    const cover = (element, box) => {
        const own = ownerDocument(element), x = box.left + box.width / 2, y = box.top + box.height / 2;
        const top = fromPoint(own, x, y); // null beside the window
        if (!top || contains(element, top) || styleOf(element).pointerEvents === "none") return null;
        for (let node = element; node && nodeType(node) === ELEMENT; node = above(node)) {
            const style = styleOf(node), edge = boxOf(node); // what is scrolled out of its box lies under nothing
            if (style.overflowX === "visible" || ["html", "body"].includes(localName(node))) continue;
            if (x < edge.left || x > edge.right || y < edge.top || y > edge.bottom) return null;
        }
        let solid = false, layer = false, whole = top;
        for (let node = top; node && nodeType(node) === ELEMENT && !contains(node, element); node = above(node)) {
            const style = styleOf(node);
            whole = node;
            layer ||= /fixed|sticky/.test(style.position) || localName(node) === "dialog";
            solid ||= !/^rgba\(/.test(style.backgroundColor) || style.backgroundImage !== "none" ||
                /^(img|video|canvas|iframe)$/.test(localName(node));
        }
        return solid && shown(top) && parseFloat(styleOf(top).opacity) > 0.5 ? {whole, layer} : null;
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
    // A line through text by an ancestor; it applies only to content in the same line boxes (CSS Text Decoration 3,
    // 2.1.1).
    const struck = element => {
        for (let node = element; node && nodeType(node) === ELEMENT; node = above(node)) {
            const style = styleOf(node);
            if (/line-through/.test(style.textDecorationLine) || crossed(node)) return true;
            if (/^inline-/.test(style.display) || style.float !== "none" || /absolute|fixed/.test(style.position)) return false;
        }
        return false;
    };
    // A line that the page draws as an empty box through the middle of the text.
    const crossed = element => boxOf(element).height < 200 && ["::before", "::after"].some(which => {
        const style = getComputedStyle(element, which), box = boxOf(element), line = parseFloat(style.height);
        if (style.content !== '""' || style.position !== "absolute" || !(box.height > 0)) return false;
        const edge = parseFloat(style.borderTopWidth) + parseFloat(style.borderBottomWidth), top = parseFloat(style.top);
        const thin = line <= 3 && (edge > 0 || !/^rgba\(.*, 0\)$/.test(style.backgroundColor));
        return thin && parseFloat(style.width) > box.width * 0.6 && top > box.height * 0.2 && top < box.height * 0.8;
    });
    // Two pieces of text are one number if they are side by side, at the same height and of the same size; raised digits
    // are decimals or a footnote (marked with RAISED), and text elsewhere does not belong to it.
    const RAISED = "\ue000";
    const joined = (out, text, boxes, size) => {
        const before = out.last, box = boxes[0];
        out.last = {box: boxes[boxes.length - 1], size, apart: /\s$/.test(text)};
        if (!before || before.apart || !/[\d.,]\s*$/.test(out.text) || !/^[\d.,]/.test(text)) return;
        const gap = box.left - before.box.right, rises = (before.box.bottom - box.bottom) / before.box.height;
        const level = Math.abs(size - before.size) <= 0.15 * before.size && Math.abs(rises) <= 0.15;
        const near = gap >= -1 && gap <= before.size / 2, mark = /^[.,]/.test(text);
        if (level && Math.abs(gap) <= 0.15 * before.size) out.text = out.text.trimEnd();
        else if (near && rises > 0.15 && !mark) out.text = out.text.trimEnd() + RAISED;
        else if (near && (level || mark)) out.text += /\s$/.test(out.text) || mark ? "" : " ";
        else out.text += "\n";
    };
    const gather = (element, out) => {
        if (out.text.length > LENGTH * 2) return;
        const name = localName(element);
        if (UNSEEN.has(name)) return;
        if (name === "br") { out.text += "\n"; return; }
        // A picture may stand for a digit.
        if (name === "img" && out.figures && shown(element) && /\d/.test(attribute(element, "alt") || "")) out.text += "\ufffc";
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
            else if (nodeType(node) === TEXT && visible && !colourless(style) && !(out.valid && struck(element))) {
                const text = node.data;
                if (!/\S/.test(text)) out.text += keeps ? text : " ";
                else {
                    const boxes = drawn(node, view), said = cased(keeps ? text : text.replace(/[ \t\r\n\f]+/g, " "), style);
                    if (!boxes.length || (out.figures && cover(element, boxes[0])?.layer === false)) continue;
                    if (out.figures) joined(out, said, boxes, parseFloat(style.fontSize));
                    out.text += /override/.test(style.unicodeBidi) && style.direction === "rtl" ? `\u202e${said}\u202c` : said;
                }
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
    // The text of ELEMENT as a person sees it. VALID: without what is struck through.
    // FIGURES: it is read as a number, so no piece may be lost or come from elsewhere.
    const words = (element, valid = false, figures = false) => {
        if (isXml(element)) return textContent(element).trim().slice(0, LENGTH);
        const value = shown(element) ? valued(element) : null;
        if (value !== null) return inked(styleOf(element)) ? value.slice(0, LENGTH) : "";
        const out = {text: "", valid, figures, last: null};
        for (let node = element; node && nodeType(node) === ELEMENT; node = above(node)) {
            if (styleOf(node).opacity === "0") return "";
        }
        gather(element, out);
        return out.text.replace(/[\u00a0 ]+/g, " ").replace(/ *([\n\t]) */g, "$1").replace(/\n[\n\t]*/g, "\n")
            .trim().slice(0, LENGTH);
    };
    const blank = (element, text) => text === "" && !CONTROLS.has(localName(element)) &&
        !find("img, svg, canvas, video", element).some(one => localName(one) !== "img" || one.naturalWidth > 0);
    const placed = element => {
        let box = boxOf(element), x = box.left, y = box.top;
        for (let view = defaultView(ownerDocument(element)); view && view !== window; view = view.parent) {
            const frame = boxOf(view.frameElement);
            x += frame.left;
            y += frame.top;
        }
        return {x, y, width: box.width, height: box.height};
    };
    const forget = () => { walls = new WeakMap(); };
    globalThis.seeing = {
        nodeType, textContent, ownerDocument, shadowRoot, localName, outerHTML, attribute, matches, boxOf, boxesOf,
        scrollIntoView, clientHeight, documentElement, inner, contentType, first, ELEMENT, LENGTH, HTML_LENGTH, TOTAL,
        SCRIPTS, styleOf, framed, find, query, above, contains, cover, describe, isVisible, valued, words, blank, placed, forget,
    };
})();
