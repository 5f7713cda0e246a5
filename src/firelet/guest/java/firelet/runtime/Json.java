package firelet.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON text as Java's own values: maps, lists, strings, numbers, booleans and null.
 *
 * <p>Whole numbers are Integer, Long or BigInteger, the smallest that holds them; others are Double,
 * or BigDecimal where a Double is not exact enough to be written the same again.
 */
final class Json {
  /** Deeper nesting is refused before the stack overflows. */
  private static final int MAX_DEPTH = 1_000;

  private final String text;
  private int at;
  private int depth;

  private Json(String text) {
    this.text = text;
  }

  /** One value and nothing after it. IllegalArgumentException says where it is wrong. */
  static Object parse(String text) {
    Json json = new Json(text);
    Object value = json.value();
    json.skipSpace();
    if (json.at < text.length()) {
      throw json.wrong("the end");
    }
    return value;
  }

  private Object value() {
    skipSpace();
    if (at >= text.length()) {
      throw wrong("a value");
    }
    switch (text.charAt(at)) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      case 't':
        return word("true", Boolean.TRUE);
      case 'f':
        return word("false", Boolean.FALSE);
      case 'n':
        return word("null", null);
      default:
        return number();
    }
  }

  private Map<String, Object> object() {
    enter();
    Map<String, Object> members = new LinkedHashMap<>();
    if (!take('}')) {
      do {
        skipSpace();
        if (at >= text.length() || text.charAt(at) != '"') {
          throw wrong("a name");
        }
        String name = string();
        expect(':');
        members.put(name, value());
      } while (take(','));
      expect('}');
    }
    depth--;
    return members;
  }

  private List<Object> array() {
    enter();
    List<Object> items = new ArrayList<>();
    if (!take(']')) {
      do {
        items.add(value());
      } while (take(','));
      expect(']');
    }
    depth--;
    return items;
  }

  private void enter() {
    at++;
    if (++depth > MAX_DEPTH) {
      throw wrong("less nesting");
    }
  }

  private String string() {
    StringBuilder out = new StringBuilder();
    for (at++; at < text.length(); at++) {
      char c = text.charAt(at);
      if (c == '"') {
        at++;
        return out.toString();
      }
      if (c < ' ') {
        throw wrong("no control character");
      }
      out.append(c == '\\' ? escape() : c);
    }
    throw wrong("the end of the string");
  }

  private char escape() {
    at++;
    char c = at < text.length() ? text.charAt(at) : 0;
    switch (c) {
      case '"':
      case '\\':
      case '/':
        return c;
      case 'b':
        return '\b';
      case 'f':
        return '\f';
      case 'n':
        return '\n';
      case 'r':
        return '\r';
      case 't':
        return '\t';
      case 'u':
        return unicode();
      default:
        throw wrong("an escape");
    }
  }

  private char unicode() {
    int code = 0;
    for (int digits = 0; digits < 4; digits++) {
      at++;
      int digit = at < text.length() ? Character.digit(text.charAt(at), 16) : -1;
      if (digit < 0) {
        throw wrong("four hexadecimal digits");
      }
      code = code * 16 + digit;
    }
    return (char) code;
  }

  private Object word(String word, Object value) {
    if (!text.startsWith(word, at)) {
      throw wrong("a value");
    }
    at += word.length();
    return value;
  }

  private Number number() {
    int start = at;
    boolean isWhole = true;
    take('-');
    int digits = digits();
    if (digits == 0 || (digits > 1 && text.charAt(at - digits) == '0')) {
      throw wrong("a value");
    }
    if (at < text.length() && text.charAt(at) == '.') {
      isWhole = false;
      at++;
      requireDigits();
    }
    if (at < text.length() && (text.charAt(at) == 'e' || text.charAt(at) == 'E')) {
      isWhole = false;
      at++;
      if (at < text.length() && (text.charAt(at) == '+' || text.charAt(at) == '-')) {
        at++;
      }
      requireDigits();
    }
    String found = text.substring(start, at);
    return isWhole ? whole(new BigInteger(found)) : fraction(found);
  }

  private static Number whole(BigInteger value) {
    if (value.bitLength() < Integer.SIZE) {
      return value.intValue();
    }
    return value.bitLength() < Long.SIZE ? (Number) value.longValue() : value;
  }

  private static Number fraction(String found) {
    double value = Double.parseDouble(found);
    BigDecimal exact = new BigDecimal(found);
    boolean isExact = !Double.isInfinite(value) && BigDecimal.valueOf(value).compareTo(exact) == 0;
    return isExact ? (Number) value : exact;
  }

  private int digits() {
    int start = at;
    while (at < text.length() && text.charAt(at) >= '0' && text.charAt(at) <= '9') {
      at++;
    }
    return at - start;
  }

  private void requireDigits() {
    if (digits() == 0) {
      throw wrong("a digit");
    }
  }

  private boolean take(char wanted) {
    skipSpace();
    if (at < text.length() && text.charAt(at) == wanted) {
      at++;
      return true;
    }
    return false;
  }

  private void expect(char wanted) {
    if (!take(wanted)) {
      throw wrong("'" + wanted + "'");
    }
  }

  private void skipSpace() {
    while (at < text.length() && " \t\r\n".indexOf(text.charAt(at)) >= 0) {
      at++;
    }
  }

  private IllegalArgumentException wrong(String expected) {
    return new IllegalArgumentException("expected " + expected + " at character " + at);
  }

  /** Appends a string with its quotes. */
  static void quote(CharSequence text, StringBuilder out) {
    out.append('"');
    for (int index = 0; index < text.length(); index++) {
      char c = text.charAt(index);
      if (c == '"' || c == '\\') {
        out.append('\\').append(c);
      } else if (c == '\n') {
        out.append("\\n");
      } else if (c == '\r') {
        out.append("\\r");
      } else if (c == '\t') {
        out.append("\\t");
      } else if (c < ' ') {
        out.append(String.format("\\u%04x", (int) c));
      } else {
        out.append(c);
      }
    }
    out.append('"');
  }
}
