// The actions of a person on a page, and their places; loaded after seeing.js and reading.js.
(() => {
    const {
        nodeType, ownerDocument, shadowRoot, localName, attribute, boxOf, scrollIntoView, clientHeight,
        documentElement, inner, ELEMENT, LENGTH, styleOf, framed, find, above, contains, describe, isVisible, valued, boxesOf,
        words, placed,
    } = globalThis.seeing;

    const hit = (element, box) => {
        const root = element.getRootNode(), place = root.elementFromPoint ? root : ownerDocument(element);
        return place.elementFromPoint(Math.max(0, box.left + box.width / 2), Math.max(0, box.top + box.height / 2));
    };
    const target = selector => {
        const all = find(selector), seen = all.find(isVisible);
        return {all, seen};
    };
    // The point where a person would click, after scrolling to it, and what covers it.
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
    // The nearest scrollable ancestor of the first match, or the page.
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
    // Scroll to BOX as a person would, to look at it.
    const reveal = (left, top, width, height) => {
        scrollTo({left: Math.max(0, left + width - innerWidth), top: Math.max(0, top + height / 2 - innerHeight / 2), behavior: "instant"});
    };
    Object.assign(globalThis.answers, {reveal, point, focus, choose, scroll});
})();
