// The state of every token after the first `after` reduction steps; the same rules as in token_history.py.
const NOBODY = -1;

class TokenHistory {
  constructor({ gone, into, shares, steps, repeats }) {
    Object.assign(this, { gone, into, shares, steps, repeats });
    this.cache = new Map();
  }

  // Token that stands for each one: itself, its survivor, or NOBODY.
  holders(after) {
    if (!this.cache.has(after)) {
      const holder = Int32Array.from(this.gone, (_, token) => token);
      for (let step = 0; step < after; step++) {
        for (let token = 0; token < holder.length; token++) {
          if (holder[token] !== NOBODY && this.gone[holder[token]] === step) holder[token] = this.into[holder[token]];
        }
      }
      const carried = new Int32Array(holder.length);
      for (const head of holder) if (head !== NOBODY) carried[head]++;
      this.cache.set(after, { holder, carried });
    }
    return this.cache.get(after);
  }

  state(token, after) {
    const head = this.holders(after).holder[token];
    return head === token ? "kept" : head === NOBODY ? "pruned" : "merged";
  }

  // The token whose encoding this one shows; null where the vision tower encoded it.
  repeated(token) {
    return this.repeats && this.repeats[token] !== token ? this.repeats[token] : null;
  }

  // Whether the latest step changed who stands for the token.
  fresh(token, after) {
    return after > 0 && this.holders(after).holder[token] !== this.holders(after - 1).holder[token];
  }

  counts(after) {
    const found = { kept: 0, merged: 0, pruned: 0, carrying: 0, repeated: 0 };
    const { holder, carried } = this.holders(after);
    holder.forEach((head, token) => {
      found[head === token ? "kept" : head === NOBODY ? "pruned" : "merged"]++;
      if (carried[token] > 1) found.carrying++;
      if (this.repeated(token) !== null) found.repeated++;
    });
    return found;
  }

  // All tokens that the holder of `token` stands for, the holder first; only itself where nobody does.
  group(token, after) {
    const { holder } = this.holders(after), head = holder[token];
    if (head === NOBODY) return [token];
    const members = [head];
    holder.forEach((other, member) => { if (other === head && member !== head) members.push(member); });
    return members;
  }

  // What happens to a token from the first step to the last: [{step, from, to}], `to` NOBODY where it is pruned.
  events(token) {
    const events = [];
    for (let now = token; now !== NOBODY && this.gone[now] < this.steps.length; now = this.into[now]) {
      events.push({ step: this.gone[now], from: now, to: this.into[now] });
    }
    return events;
  }
}
