import com.typesafe.config.ConfigFactory;
import com.typesafe.config.ConfigRenderOptions;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.io.StringReader;
import java.nio.charset.StandardCharsets;
import java.security.KeyStore;
import java.security.PrivateKey;
import java.util.Base64;
import java.util.Collections;
import java.util.Properties;

/** Reads files as Java programs do: lines of “kind base64” in, a line of base64 out for each: JSON of a HOCON text, of
 * properties one “key NUL value NUL” after the other, of a keystore (and its password) what stands at that method. */
class Reads {
    public static void main(String[] arguments) throws Exception {
        BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
        for (String line = lines.readLine(); line != null; line = lines.readLine()) {
            String[] given = line.split(" ", -1);
            byte[] content = Base64.getDecoder().decode(given[1]);
            String text = new String(content, StandardCharsets.UTF_8);
            String found = switch (given[0]) {
                case "hocon" -> hocon(text);
                case "properties" -> properties(text);
                default -> keystore(content, given[2].toCharArray());
            };
            System.out.println(Base64.getEncoder().encodeToString(found.getBytes(StandardCharsets.UTF_8)));
            System.out.flush();
        }
    }

    private static String hocon(String text) {
        return ConfigFactory.parseString(text).resolve().root().render(ConfigRenderOptions.concise());
    }

    /** “alias NUL key or trusted NUL length of the chain NUL base64 of the certificate NUL”, in the store's order. */
    private static String keystore(byte[] content, char[] password) throws Exception {
        KeyStore store = KeyStore.getInstance("PKCS12");
        store.load(new ByteArrayInputStream(content), password);
        StringBuilder found = new StringBuilder();
        for (String alias : Collections.list(store.aliases())) {
            boolean key = store.getKey(alias, password) instanceof PrivateKey;
            int links = key ? store.getCertificateChain(alias).length : 1;
            String certificate = Base64.getEncoder().encodeToString(store.getCertificate(alias).getEncoded());
            for (String part : new String[] {alias, key ? "key" : "trusted", "" + links, certificate}) {
                found.append(part).append('\0');
            }
        }
        return found.toString();
    }

    private static String properties(String text) throws Exception {
        Properties read = new Properties();
        read.load(new StringReader(text));
        StringBuilder found = new StringBuilder();
        for (String key : read.stringPropertyNames()) {
            found.append(key).append('\0').append(read.getProperty(key)).append('\0');
        }
        return found.toString();
    }
}
